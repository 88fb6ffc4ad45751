"""ViT on ImageNet-1k from scratch: the ViT paper's recipe, any size.

    vit_jax train --config=configs/vit_i1k.py:B/16

300 epochs, batch 4096, Adam with weight decay 0.3, lr 3e-3 with 10,000 steps of warm-up and
cosine decay, dropout 0.1, gradients clipped at norm 1, inception crop to 224 px, a tanh layer
before the head (arXiv:2010.11929, Table 3). ':B/16,deit' is the ViT-B column of DeiT's Table 9
(arXiv:2012.12877): the same with 3.4 epochs of warm-up.
The last 1 % of `train` is the validation split that picks the best checkpoint. For fine-tuning at
384 px see configs/finetune.py.
Hardware: a pod slice or 8 GPUs. Expected: B/16 77.91 %, B/32 73.38 %, L/16 76.53 %, L/32 71.16 %
after fine-tuning at 384 px (paper, Table 5); not yet run here.
"""

from ml_collections import ConfigDict


def get_config(arg: str = 'B/16') -> ConfigDict:
  size, _, variant = arg.partition(',')
  if variant not in ('', 'deit'):
    raise ValueError(f"{variant} is not 'deit'")
  c = ConfigDict()
  c.name = 'vit_i1k_' + arg.replace('/', '_').replace(',', '_')
  c.epochs = 300.0
  c.batch_size = 4096
  c.model = ConfigDict(
    dict(name=size, pool='cls', representation=True, dropout=0.1, dtype='bfloat16', remat='none')
  )
  c.data = ConfigDict(
    dict(
      name='imagenet2012',
      num_classes=1000,
      train='train[:99%]',
      image_size=(224, 224),
      crop='inception',
      eval_interpolation='bilinear',
    )
  )
  c.optim = ConfigDict(
    dict(
      lr=3e-3,
      weight_decay=0.3,
      clip_norm=1.0,
      schedule='cosine',
      warmup=dict(epochs=3.4) if variant else dict(steps=10_000),
    )
  )
  c.evals = ConfigDict(
    dict(val=dict(split='train[99%:]', every=dict(epochs=10.0)), test=dict(split='validation'))
  )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c
