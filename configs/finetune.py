"""Fine-tuning as the papers do it, from a pretrained run or published weights.

    vit_jax train --config=configs/finetune.py:imagenet2012 --config.init_from=RUN \\
        --config.model.name=B/16

    vit_jax transfer --weights=RUN --data cifar10 oxford_iiit_pet --methods fine_tune --seeds 0 1 2

After the data set, one of
  (nothing)     the ViT paper (arXiv:2010.11929, Table 4): SGD with momentum 0.9, no decay, steps by
                data set, lr from {1e-3, 3e-3, 1e-2, 3e-2} (ImageNet: {3e-3 ... 6e-2}); a task of
                VTAB ('vtab') for 2,500 steps at lr 0.01 on its 1,000 examples
  512, 518      the same at these pixels with averaged weights (0.9999): its Table 2
  repo          google-research/vision_transformer configs/common.py: lr 0.03 (CIFAR: 0.01),
                momentum in bfloat16
  augreg        arXiv:2106.10270, Table 4: its grid of lr and steps; 'augreg,224' for 224 px
  augreg_repo   google-research/vision_transformer configs/augreg.py: 500 steps at lr 0.03, images
                to 448 px and a random 384 of them
  big_vision    google-research/big_vision configs/transfer.py: lr 0.01, likewise 448 and 384
  scaling_vit   arXiv:2106.04560, appendix D: lr from {3e-2, 1e-2}; 'scaling_vit,518' for g/14;
                'scaling_vit,G' for G/14: 518 px, constant lr, averaged weights
  sovit         arXiv:2305.13035, Table 8: 50,000 steps at lr 0.03, sigmoid loss, an lr that falls
                from layer to layer; 'sovit,224' and 'sovit,518'
All with batch 512, cosine decay, 500 steps of warm-up (100 of 500 steps), clip 1, 384 px, a head of
zeros, and positions resized. What picks lr and checkpoint is a part of the training images: 1 % of
ImageNet (sovit: 2 %), 2 % of CIFAR, a tenth of all others, also of data sets that no paper has,
which are trained as the small ones. `sweep` lists the grid and `transfer` picks from it.
Hardware: 8 GPUs or a small slice. Expected: B/16 from ImageNet-21k reaches 83.97 % on ImageNet,
98.95 % on CIFAR-10, 91.67 % on CIFAR-100 (ViT paper, Table 5); So400m/14 from JFT-3B 90.0 % at 384
px (arXiv:2305.13035, Table 1); not yet run here.
"""

from ml_collections import ConfigDict, config_dict

VTAB = 'vtab'  # any task of it: `transfer` names its data
# data set: (steps, train split, validation split, test split, classes)
DATASETS = {
  'imagenet2012': (20_000, 'train[:99%]', 'train[99%:]', 'validation', 1000),
  'cifar10': (10_000, 'train[:98%]', 'train[98%:]', 'test', 10),
  'cifar100': (10_000, 'train[:98%]', 'train[98%:]', 'test', 100),
  'oxford_iiit_pet': (500, 'train[:90%]', 'train[90%:]', 'test', 37),
  'oxford_flowers102': (500, 'train[:90%]', 'train[90%:]', 'test', 102),
  VTAB: (2500, 'train', '', 'test', 0),
}
OTHERS = (500, 'train[:90%]', 'train[90%:]', 'test', 0)  # 0: as many classes as the data has
# recipe: the rates that it tries; (where not all alike) those on ImageNet
RATES = {
  '': (0.001, 0.003, 0.01, 0.03),
  'repo': (0.03,),
  'augreg': (0.001, 0.003, 0.01),
  'augreg_repo': (0.03,),
  'big_vision': (0.01,),
  'scaling_vit': (0.03, 0.01),
  'sovit': (0.03,),
}
IMAGENET_RATES = {'': (0.003, 0.01, 0.03, 0.06), 'augreg': (0.01, 0.03)}
CIFAR_RATES = {'repo': (0.01,), 'augreg': (0.001, 0.003, 0.01)}
VTAB_RATES = {'': (0.01,), 'scaling_vit': (0.01,), 'augreg': (0.001, 0.003, 0.01, 0.03)}
# AugReg's (steps, warm-up) by data set
LENGTHS = {
  'imagenet2012': ((20_000, 500),),
  'cifar100': ((2500, 200), (10_000, 500)),
  'resisc45': ((2500, 200), (10_000, 500)),
  VTAB: ((500, 100), (2500, 200)),
}
SHORT = ((500, 100), (2500, 200))
SIZES = ('224', '512', '518', 'G')
# (recipe, pixels): the paper's model at them; B/16 elsewhere
MODELS = {
  ('', '512'): 'L/16',
  ('', '518'): 'H/14',
  ('scaling_vit', ''): 'L/16',
  ('scaling_vit', '518'): 'g/14',
  ('scaling_vit', 'G'): 'G/14',
  ('sovit', ''): 'L/16',  # of 384 pixels, patches of 14 leave a rim
  ('sovit', '224'): 'So400m/14',
  ('sovit', '518'): 'So400m/14',
}


def _words(arg: str) -> tuple[str, str, str]:
  """(data set, recipe, pixels or 'G')."""
  dataset, *words = arg.split(',')
  recipe = next((word for word in words if word in RATES), '')
  size = next((word for word in words if word in SIZES), '')
  if {*words} - {recipe, size}:
    raise ValueError(f'{arg}: after the data set comes one of {", ".join((*RATES, *SIZES)[1:])}')
  return dataset, recipe, size


def _rates(dataset: str, recipe: str) -> tuple[float, ...]:
  special = {
    'imagenet2012': IMAGENET_RATES,
    VTAB: VTAB_RATES,
    'cifar10': CIFAR_RATES,
    'cifar100': CIFAR_RATES,
  }
  return special.get(dataset, {}).get(recipe, RATES[recipe])


def get_sweep(arg: str = 'imagenet2012') -> list[dict]:
  dataset, recipe, _ = _words(arg)
  runs = [{'optim.lr': rate} for rate in _rates(dataset, recipe)]
  if recipe != 'augreg':
    return runs
  return [
    {**run, 'steps': steps, 'optim.warmup.steps': warmup}
    for steps, warmup in LENGTHS.get(dataset, SHORT)
    for run in runs
  ]


def get_config(arg: str = 'imagenet2012') -> ConfigDict:
  dataset, recipe, size = _words(arg)
  steps, train, val, test, num_classes = DATASETS.get(dataset, OTHERS)
  warmup = min(500, steps // 5)
  if recipe == 'augreg':
    steps, warmup = LENGTHS.get(dataset, SHORT)[0]
  elif recipe == 'augreg_repo':
    steps, warmup = 500, 100
  elif recipe == 'sovit':
    steps, warmup, train, val = 50_000, 500, 'train[:98%]', 'train[98%:]'
  rates = _rates(dataset, recipe)
  pixels = 518 if size == 'G' else int(size or 384)
  c = ConfigDict()
  c.name = 'finetune_' + arg.replace('/', '_').replace(':', '_').replace(',', '_')
  c.steps = steps
  c.batch_size = 512
  c.init_from = config_dict.placeholder(str)
  pool = 'map' if recipe in ('scaling_vit', 'sovit') else 'cls'
  c.model = ConfigDict(dict(name=MODELS.get((recipe, size), 'B/16'), pool=pool, dtype='bfloat16'))
  c.data = ConfigDict(
    dict(
      name=dataset,
      num_classes=num_classes,
      train=train,
      image_size=(pixels, pixels),
      crop='inception',
      # google-research/vision_transformer input_pipeline.py: the whole image, by tf.image.resize.
      eval_crop=1.0,
      eval_interpolation='bilinear',
      eval_aspect='change',
      eval_antialias=False,
    )
  )
  if recipe in ('augreg_repo', 'big_vision'):
    c.data.update(crop='resized', crop_resize=(448, 448))
  c.optim = ConfigDict(
    dict(
      name='sgd',
      momentum=0.9,
      lr=0.01 if 0.01 in rates else rates[0],
      schedule='cosine',
      clip_norm=1.0,
      warmup=dict(steps=warmup),
    )
  )
  if recipe in ('repo', 'augreg', 'augreg_repo', 'big_vision'):
    c.optim.mu_dtype = 'bfloat16'
  if size in ('512', 'G') or size == '518' and not recipe:
    c.optim.ema = 0.9999
  if size == 'G':
    c.optim.schedule = 'constant'
  if recipe == 'sovit':
    c.loss = ConfigDict(dict(name='sigmoid'))
    c.model.head_bias = -6.9
    c.optim.layer_decay = 0.85 if pixels == 224 else 0.9
    if pixels > 224:
      c.augment = ConfigDict(
        dict(auto='rand_augment', rand_layers=2, rand_magnitude=10.0, mixup=0.2)
      )
  every = dict(steps=max(100, steps // 20))
  c.evals = ConfigDict(dict(test=dict(split=test)))
  if val:
    c.evals.val = ConfigDict(dict(split=val, every=every))
    c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c
