"""CaiT on ImageNet-1k from scratch, any size.

    vit_jax train --config=configs/cait.py:S24

400 epochs, stochastic depth by size, the same at every depth (arXiv:2103.17239, section 5 and
Table 3; facebookresearch/deit README_cait.md); all else as DeiT: batch 1024, AdamW at lr 1e-3, 5
epochs of warm-up from 1e-6, a cosine to 1e-5 counted by the epoch, weight decay 0.05, EMA 0.99996,
label smoothing 0.1, RandAugment (timm's rand-m9-mstd0.5-inc1), mixup 0.8 or cutmix 1.0, random
erasing 0.25, 3 views of each image in an epoch, 224 px, evaluated on the whole central square. The
last 1 % of `train` picks the best checkpoint. For a teacher, see configs/deit.py.
Hardware: 8 GPUs for XXS24, a pod for M48. Expected: XXS24 77.6 %, XS24 81.8 %, XS36 82.6 %, S24
82.7 %, S36 83.3 %, M24 83.4 % at 224 px without a teacher (paper, as quoted by later ones); not yet
run here.
"""

from ml_collections import ConfigDict

# size: (model, stochastic depth). XS36 and M24 have no published weights, so no name of their own.
SIZES = {
  'XXS24': (dict(name='CaiT-XXS24'), 0.05),
  'XXS36': (dict(name='CaiT-XXS36'), 0.1),
  'XS24': (dict(name='CaiT-XS24'), 0.05),
  'XS36': (dict(name='CaiT-XS24', depth=36, layerscale=1e-6), 0.1),
  'S24': (dict(name='CaiT-S24'), 0.1),
  'S36': (dict(name='CaiT-S36'), 0.2),
  'S48': (dict(name='CaiT-S48'), 0.3),
  'M24': (dict(name='CaiT-M36', depth=24, layerscale=1e-5), 0.2),
  'M36': (dict(name='CaiT-M36'), 0.3),
  'M48': (dict(name='CaiT-M48'), 0.4),
}


def get_config(size: str = 'XXS24') -> ConfigDict:
  if size not in SIZES:
    raise ValueError(f'{size} is none of {", ".join(SIZES)}')
  model, depth = SIZES[size]
  c = ConfigDict()
  c.name = f'cait_{size}'
  c.epochs = 400.0
  c.batch_size = 1024
  c.model = ConfigDict(dict(**model, stochastic_depth=depth, dtype='bfloat16', remat='names'))
  c.data = ConfigDict(
    dict(
      name='imagenet2012',
      num_classes=1000,
      train='train[:99%]',
      image_size=(224, 224),
      crop='random_resized',
      crop_area=(0.08, 1.0),
      interpolation='bicubic',
      repeats=3,
      eval_crop=1.0,
      mean=(0.485, 0.456, 0.406),
      std=(0.229, 0.224, 0.225),
    )
  )
  c.augment = ConfigDict(
    dict(
      auto='timm_rand_augment',
      rand_magnitude=9.0,
      rand_std=0.5,
      mixup=0.8,
      cutmix=1.0,
      erase=0.25,
      erase_fill='noise',
    )
  )
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  c.optim = ConfigDict(
    dict(
      lr=1e-3,
      end_lr=1e-5,
      weight_decay=0.05,
      schedule='timm_cosine',
      warmup=dict(epochs=5.0),
      warmup_lr=1e-6,
      ema=0.99996,
    )
  )
  c.evals = ConfigDict(
    dict(val=dict(split='train[99%:]', every=dict(epochs=10.0)), test=dict(split='validation'))
  )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c
