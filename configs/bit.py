"""BiT, upstream, on ImageNet-1k or -21k: big_vision's recipe, any width and depth.

    vit_jax train --config=configs/bit.py:R50x1
    vit_jax train --config=configs/bit.py:R101x1,i21k

90 epochs, batch 4096, SGD with its momentum of 0.9 in bfloat16, cosine decay, clip 1, inception
crop to 224 px. ImageNet-1k: lr 0.1 for each 256 images, decay 1e-4 for each 256 images, 1,000 steps
of warm-up, softmax. ImageNet-21k: 0.03, 3e-5, 5,000 steps, sigmoid loss with a head bias of -10
(google-research/big_vision configs/bit_i1k.py, bit_i21k.py, whose decay is not times lr: here it is
divided by it). The last 1 % of `train` (51,200 images of ImageNet-21k) picks the best checkpoint.
Hardware: a pod slice. Expected: R152x4 from ImageNet-1k 81.3 % after fine-tuning (arXiv:1912.11370,
Table 2); not yet run here.
"""

from ml_collections import ConfigDict


def get_config(arg: str = 'R50x1') -> ConfigDict:
  size, _, data = arg.partition(',')
  if data not in ('', 'i1k', 'i21k'):
    raise ValueError(f'{data} is none of i1k, i21k')
  large = data == 'i21k'
  c = ConfigDict()
  c.name = 'bit_' + arg.replace(',', '_')
  c.epochs = 90.0
  c.batch_size = 4096
  c.model = ConfigDict(
    dict(name=f'BiT-{size}', head_bias=-10.0 if large else 0.0, dtype='bfloat16')
  )
  c.data = ConfigDict(
    dict(
      name='imagenet21k' if large else 'imagenet2012',
      num_classes=21_843 if large else 1000,
      train='full[51200:]' if large else 'train[:99%]',
      image_size=(224, 224),
      crop='inception',
      eval_interpolation='bilinear',
    )
  )
  c.loss = ConfigDict(dict(name='sigmoid' if large else 'softmax'))
  lr, decay = (0.03, 3e-5) if large else (0.1, 1e-4)
  c.optim = ConfigDict(
    dict(
      name='sgd',
      momentum=0.9,
      mu_dtype='bfloat16',
      lr=lr * 4096 / 256,
      weight_decay=decay / lr,
      clip_norm=1.0,
      schedule='cosine',
      warmup=dict(steps=5000 if large else 1000),
    )
  )
  if large:
    c.evals = ConfigDict(dict(val=dict(split='full[:51200]', every=dict(epochs=5.0))))
  else:
    c.evals = ConfigDict(
      dict(val=dict(split='train[99%:]', every=dict(epochs=10.0)), test=dict(split='validation'))
    )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c
