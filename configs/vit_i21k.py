"""ViT on ImageNet-21k: the ViT paper's pretraining, any size.

    vit_jax train --config=configs/vit_i21k.py:L/16

90 epochs (':L/16,30' for 30, as the paper trained L/16 and L/32 too), batch 4096, Adam with weight
decay 0.03, lr 1e-3 with 10,000 steps of warm-up and linear decay, dropout 0.1, no clipping,
inception crop to 224 px, a tanh layer before the head (arXiv:2010.11929, Table 3). Labels are the
21,843 classes of the autumn 2011 release; 51,200 images pick the best checkpoint.
Hardware: a pod. Expected: B/16 83.97 %, L/16 85.15 % on ImageNet after fine-tuning at 384 px
(paper, Table 5); not yet run here.
"""

from ml_collections import ConfigDict


def get_config(arg: str = 'L/16') -> ConfigDict:
  size, _, epochs = arg.partition(',')
  c = ConfigDict()
  c.name = 'vit_i21k_' + arg.replace('/', '_').replace(',', '_')
  c.epochs = float(epochs or 90)
  c.batch_size = 4096
  c.model = ConfigDict(
    dict(name=size, pool='cls', representation=True, dropout=0.1, dtype='bfloat16', remat='none')
  )
  c.data = ConfigDict(
    dict(
      name='imagenet21k',
      num_classes=21_843,
      train='full[51200:]',
      image_size=(224, 224),
      crop='inception',
      eval_interpolation='bilinear',
    )
  )
  c.optim = ConfigDict(
    dict(lr=1e-3, weight_decay=0.03, schedule='linear', warmup=dict(steps=10_000))
  )
  c.evals = ConfigDict(dict(val=dict(split='full[:51200]', every=dict(epochs=5.0))))
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c
