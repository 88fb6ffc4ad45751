"""Does it help? What each ingredient of DeiT's and DeiT III's training gives a small ViT.

    vit_jax compare --config=configs/ingredients.py:earth_climate --seeds 0 1 2

or fashion_mnist. The baseline has shifts, reflections, AdamW and the softmax; each ingredient is
added to it alone, with the numbers of its paper, and trained with the first seed; `DeiT` and
`DeiT III` add all of theirs, and have all seeds, as the baseline has. All see as many images:
20 epochs of the 8,282 patches of earth_climate, or of the first 8,000 images of fashion_mnist. The
learning rate of another optimizer is chosen on held-out training images.
Hardware: one CPU core, about an hour each. Expected: docs/ingredients.md.
"""

from ml_collections import ConfigDict

DATA = {
  'earth_climate': dict(
    name='earth_climate',
    num_classes=14,
    image_size=(32, 32),
    mean=(0.42, 0.41, 0.32),
    std=(0.30, 0.29, 0.32),
    crop_pad=4,
  ),
  'fashion_mnist': dict(
    name='fashion_mnist',
    num_classes=10,
    train='train[:8000]',
    image_size=(28, 28),
    channels=1,
    mean=(0.286,),
    std=(0.353,),
    crop_pad=2,
  ),
}
RAND_AUGMENT = {
  'augment.auto': 'timm_rand_augment',
  'augment.rand_magnitude': 9.0,
  'augment.rand_std': 0.5,
}
THREE_AUGMENT = {'augment.auto': 'three_augment'}
ERASING = {'augment.erase': 0.25}
MIXUP = {'augment.mixup': 0.8}
CUTMIX = {'augment.cutmix': 1.0}
REPEATS = {'data.repeats': 3}
SMOOTHING = {'loss.label_smoothing': 0.1}
BCE = {'loss.name': 'bce'}
DEPTH = {'model.stochastic_depth': 0.1}
# DeiT's 0.99996 is for 375,000 steps.
EMA = {'optim.ema': 0.999}
LAMB = {'optim.name': 'lamb', 'optim.weight_decay': 0.02}
INGREDIENTS = {
  'baseline': {},
  'RandAugment': RAND_AUGMENT,
  '3-Augment': THREE_AUGMENT,
  'random resized crop': {'data.crop': 'random_resized', 'data.crop_area': (0.08, 1.0)},
  'erasing': ERASING,
  'mixup': MIXUP,
  'CutMix': CUTMIX,
  'repeats': REPEATS,
  'label smoothing': SMOOTHING,
  'BCE': BCE,
  'stochastic depth': DEPTH,
  'EMA': EMA,
  'LAMB': LAMB,
  'Lion': {'optim.name': 'lion', 'optim.b2': 0.99, 'optim.weight_decay': 0.5},
  'Muon': {'optim.name': 'muon'},
  'DeiT': {**RAND_AUGMENT, **ERASING, **MIXUP, **CUTMIX, **REPEATS, **SMOOTHING, **DEPTH, **EMA},
  'DeiT III': {**THREE_AUGMENT, **MIXUP, **CUTMIX, **REPEATS, **BCE, **DEPTH, **LAMB},
}
WITH_ALL_SEEDS = ('baseline', 'DeiT', 'DeiT III')
RATES = {
  'LAMB': (3e-3, 1e-2),
  'Lion': (1e-4, 3e-4),
  'Muon': (1e-3, 1e-2),
  'DeiT III': (3e-3, 1e-2),
}


def get_comparison(data: str = 'earth_climate') -> list:
  if data not in DATA:
    raise ValueError(f'{data} is none of {", ".join(DATA)}')
  return [
    dict(
      name=name,
      seeds=0 if name in WITH_ALL_SEEDS else 1,
      choices=[{'optim.lr': rate} for rate in RATES.get(name, ())],
    )
    for name in INGREDIENTS
  ]


def get_config(arg: str = 'earth_climate,baseline') -> ConfigDict:
  data, _, name = arg.partition(',')
  if data not in DATA or name not in INGREDIENTS:
    words = f'{", ".join(DATA)}, then a comma and one of {", ".join(INGREDIENTS)}'
    raise ValueError(f'{arg} is none of {words}')
  c = ConfigDict()
  c.name = 'ingredients'
  c.epochs = 20.0
  c.batch_size = 64
  c.eval_batch_size = 256
  patch = DATA[data]['image_size'][0] // 4
  model = dict(name=f'Ti/{patch}', width=128, depth=4, heads=4, mlp=384, pool='mean')
  c.model = ConfigDict(dict(**model, patch_dropout=0.5))  # halves what a step costs
  c.data = ConfigDict(dict(**DATA[data], crop='pad', eval_crop=1.0))
  c.augment = ConfigDict()
  c.loss = ConfigDict()
  c.optim = ConfigDict(dict(lr=1e-3, weight_decay=0.05, clip_norm=1.0, warmup=dict(epochs=2.0)))
  c.evals = ConfigDict(dict(test=dict(split='test')))
  c.log = ConfigDict(dict(every=dict(epochs=1.0)))
  c.update_from_flattened_dict(INGREDIENTS[name])
  return c
