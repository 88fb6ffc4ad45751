"""CaiT on ImageNet-1k from scratch, any size.

    vit_jax train --config=configs/cait.py:XXS24

400 epochs, stochastic depth by size, the same at every depth (arXiv:2103.17239, section 5 and
Table 3); all else as DeiT: batch 1024, AdamW at lr 1e-3 with 5 epochs of warm-up and cosine decay
to 1e-5, weight decay 0.05, label smoothing 0.1, mixup 0.8, cutmix 1.0, random erasing 0.25, 224 px
(arXiv:2012.12877, Table 9; without its RandAugment and repeated augmentation). The last 1 % of
`train` picks the best checkpoint. For a teacher, see configs/deit.py.
Hardware: 8 GPUs for XXS24, a pod for M48. Expected: XXS24 77.6 %, XS24 81.8 %, S24 82.7 %, S36
83.3 % at 224 px without a teacher (paper, as quoted by later ones); not yet run here.
"""

from ml_collections import ConfigDict

STOCHASTIC_DEPTH = {
  'XXS24': 0.05,
  'XXS36': 0.1,
  'XS24': 0.05,
  'S24': 0.1,
  'S36': 0.2,
  'S48': 0.3,
  'M36': 0.3,
  'M48': 0.4,
}


def get_config(size: str = 'XXS24') -> ConfigDict:
  if size not in STOCHASTIC_DEPTH:
    raise ValueError(f'{size} is none of {", ".join(STOCHASTIC_DEPTH)}')
  c = ConfigDict()
  c.name = f'cait_{size}'
  c.epochs = 400.0
  c.batch_size = 1024
  c.model = ConfigDict(
    dict(
      name=f'CaiT-{size}', stochastic_depth=STOCHASTIC_DEPTH[size], dtype='bfloat16', remat='names'
    )
  )
  c.data = ConfigDict(
    dict(
      name='imagenet2012',
      num_classes=1000,
      train='train[:99%]',
      image_size=(224, 224),
      eval_resize=224,
      crop_area=(0.08, 1.0),
      mean=(0.485, 0.456, 0.406),
      std=(0.229, 0.224, 0.225),
    )
  )
  c.augment = ConfigDict(
    dict(mixup=0.8, cutmix=1.0, erase=0.25, brightness=0.3, contrast=0.3, saturation=0.3)
  )
  c.loss = ConfigDict(dict(label_smoothing=0.1))
  c.optim = ConfigDict(
    dict(lr=1e-3, end_lr=1e-5, weight_decay=0.05, schedule='cosine', warmup=dict(epochs=5.0))
  )
  c.evals = ConfigDict(
    dict(val=dict(split='train[99%:]', every=dict(epochs=10.0)), test=dict(split='validation'))
  )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c
