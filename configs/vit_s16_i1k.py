"""ViT-S/16 on ImageNet-1k in 90 epochs: the field's quick baseline.

    vit_jax train --config=configs/vit_s16_i1k.py:90

90, 150 or 300 epochs, batch 1024, Adam with its first moment in bfloat16, lr 1e-3 with 10,000 steps
of warm-up and cosine decay, weight decay 0.1 times lr, clip 1, inception crop to 224 px,
RandAugment (2, 10), mixup 0.2, fixed sines and cosines as positions, mean of the patches, a tanh
layer before the head (arXiv:2205.01580, appendix A; google-research/big_vision
configs/vit_s16_i1k.py). The last 1 % of `train` picks the best checkpoint.
Hardware: 8 TPUv3 cores for 6.5 hours (90 epochs). Expected: 76.5 % after 90 epochs, 78.5 % after
150, 80.0 % after 300 (paper, Table 1); not yet run here.
"""

from ml_collections import ConfigDict

EPOCHS = ('90', '150', '300')


def get_config(epochs: str = '90') -> ConfigDict:
  if epochs not in EPOCHS:
    raise ValueError(f'{epochs} is none of {", ".join(EPOCHS)}')
  c = ConfigDict()
  c.name = f'vit_s16_i1k_{epochs}'
  c.epochs = float(epochs)
  c.batch_size = 1024
  c.model = ConfigDict(
    dict(name='S/16', pool='mean', posemb='sincos2d', representation=True, dtype='bfloat16')
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
  c.augment = ConfigDict(dict(auto='rand_augment', rand_layers=2, rand_magnitude=10.0, mixup=0.2))
  c.optim = ConfigDict(
    dict(
      lr=1e-3,
      weight_decay=0.1,
      clip_norm=1.0,
      mu_dtype='bfloat16',
      schedule='cosine',
      warmup=dict(steps=10_000),
    )
  )
  c.evals = ConfigDict(
    dict(
      minival=dict(split='train[99%:]', every=dict(epochs=5.0)),
      test=dict(split='validation', every=dict(epochs=15.0)),
    )
  )
  c.checkpoint = ConfigDict(dict(best='minival/top1'))
  return c
