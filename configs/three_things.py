"""ViTs of "Three things everyone should know about ViTs": its baseline on ImageNet-1k.

    vit_jax train --config=configs/three_things.py:S/16

300 epochs, or with ',layerscale' 400 with LayerScale 1e-4, by procedure A2 of "ResNet strikes back"
(arXiv:2110.00476, Table 2): batch 2048, LAMB with weight decay 0.02, BCE, 5 epochs of warm-up and
cosine decay, RandAugment 7 with deviation 0.5, mixup 0.1 or cutmix 1.0, 3 views of each image in an
epoch, 224 px, evaluated at a crop of 0.95; lr and stochastic depth by size (arXiv:2203.09795). The
last 1 % of `train` picks the best checkpoint.
Hardware: 8 GPUs for Ti/16 to B/16. Expected: see the paper's Table 1; not yet run here.
"""

from ml_collections import ConfigDict

# size: (lr, stochastic depth)
SIZES = {'Ti/16': (4e-3, 0.0), 'S/16': (4e-3, 0.05), 'B/16': (3e-3, 0.1), 'L/16': (3e-3, 0.4)}


def get_config(arg: str = 'S/16') -> ConfigDict:
  size, _, word = arg.partition(',')
  if size not in SIZES or word not in ('', 'layerscale'):
    raise ValueError(f'{arg} is none of {", ".join(SIZES)}, and ",layerscale"')
  lr, depth = SIZES[size]
  c = ConfigDict()
  c.name = 'three_things_' + arg.replace('/', '_').replace(',', '_')
  c.epochs = 400.0 if word else 300.0
  c.batch_size = 2048
  c.model = ConfigDict(
    dict(
      name=size,
      init='trunc_normal',
      token_std=0.02,
      exact_gelu=True,
      layerscale=1e-4 if word else 0.0,
      stochastic_depth=depth,
      dtype='bfloat16',
    )
  )
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
      eval_crop=0.95,
      mean=(0.485, 0.456, 0.406),
      std=(0.229, 0.224, 0.225),
    )
  )
  c.augment = ConfigDict(
    dict(auto='timm_rand_augment', rand_magnitude=7.0, rand_std=0.5, mixup=0.1, cutmix=1.0)
  )
  c.loss = ConfigDict(dict(name='bce'))
  c.optim = ConfigDict(
    dict(
      name='lamb',
      lr=lr,
      end_lr=1e-6,
      weight_decay=0.02,
      schedule='timm_cosine',
      warmup=dict(epochs=5.0),
      warmup_lr=1e-6,
    )
  )
  c.evals = ConfigDict(
    dict(val=dict(split='train[99%:]', every=dict(epochs=10.0)), test=dict(split='validation'))
  )
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c
