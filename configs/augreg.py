"""AugReg, "How to train your ViT?": ViTs and hybrids with its augmentation and regularization.

    vit_jax train --config=configs/augreg.py:B/16,i21k,medium1

After the size, in any order:
  i1k, i21k                       300 epochs of ImageNet-1k, or of -21k (30: 30 epochs of it)
  none, light1, light2, medium1,  RandAugment and mixup: the paper's settings; by default
    medium2, strong1, strong2     big_vision's for the size
  wd0.03                          weight decay 0.03 in place of 0.1
  reg                             dropout 0.1 and stochastic depth 0.1
  head                            a tanh layer before the head (both were tried on ImageNet-1k)
  big_vision                      big_vision's vit_i1k.py (with the tanh layer) or vit_i21k.py
                                  (which takes the mean of the patches)
  pets, resisc45                  from scratch on these instead (`vit_jax sweep` takes the grid)

Batch 4096, Adam with its first moment in bfloat16, lr 1e-3 with 10,000 steps of warm-up and cosine
decay, decoupled weight decay, clip 1, sigmoid loss, inception crop to 224 px (arXiv:2106.10270,
sections 3.2 to 3.4 and appendix A; google-research/big_vision configs/vit_i1k.py, vit_i21k.py).
The last 1 % of `train` (51,200 images of ImageNet-21k) picks the best checkpoint.
Hardware: a pod slice. Expected after fine-tuning at 384 px: 21k Ti/16 78.22 % (none, wd0.03), S/32
79.58 % (none), S/16 83.73 % (light1, wd0.03), B/32 83.59 % (light1), B/16 85.49 % (medium1), L/16
85.59 % (strong1), R+Ti/16 75.40 % (none, wd0.03), R26+S/32 83.85 % (light1), R50+L/32 85.99 %
(medium1, reg); 1k B/16 81.63 % (paper, Table 3, and its repository); not yet run here.
"""

from ml_collections import ConfigDict

# setting: (RandAugment's layers and magnitude, alpha of mixup); section 3.3
SETTINGS = {
  'none': (0, 0, 0.0),
  'light1': (2, 0, 0.0),
  'light2': (2, 10, 0.2),
  'medium1': (2, 15, 0.2),
  'medium2': (2, 15, 0.5),
  'strong1': (2, 20, 0.5),
  'strong2': (2, 20, 0.8),
}
# big_vision's choice for each size, of ImageNet-1k and -21k
USUAL = {
  'Ti/16': ('light1', 'none'),
  'S/32': ('medium1', 'none'),
  'S/16': ('medium2', 'light1'),
  'B/32': ('medium2', 'light2'),
  'B/16': ('medium2', 'light2'),
  'L/16': ('medium2', 'medium2'),
}
OTHERS = ('medium2', 'light2')
# data set: (name, train split, split that chooses, test split or '', classes, bias of the head)
DATA = {
  'i1k': ('imagenet2012', 'train[:99%]', 'train[99%:]', 'validation', 1000, -6.9),
  'i21k': ('imagenet21k', 'full[51200:]', 'full[:51200]', '', 21_843, -10.0),
  'pets': ('oxford_iiit_pet', 'train[:90%]', 'train[90%:]', 'test', 37, 0.0),
  'resisc45': ('resisc45', 'train[:60%]', 'train[60%:80%]', 'train[80%:]', 45, 0.0),
}
WORDS = ('30', 'wd0.03', 'reg', 'head', 'big_vision')
# Appendix A: (epochs, lr, decay, which is not times lr there).
GRIDS = {
  ('B/32', 'pets'): (
    (1e3, 3e3, 1e4, 3e4, 3e5), (1e-4, 3e-4, 1e-3, 3e-3), (1e-5, 3e-5, 1e-4, 3e-4)
  ),
  ('B/16', 'pets'): ((1e3, 3e3, 1e4), (3e-4, 1e-3), (3e-5, 1e-4)),
  ('B/32', 'resisc45'): (
    (75, 250, 750, 2500, 7500, 25_000), (1e-4, 3e-4, 1e-3, 3e-3), (1e-5, 3e-5, 1e-4, 3e-4)
  ),
  ('B/16', 'resisc45'): ((75, 250, 750, 2500, 7500), (1e-3,), (1e-4, 3e-4)),
}  # fmt: skip


def _words(arg: str) -> tuple[str, str, str, list[str]]:
  """(size, data, setting, other words)."""
  size, *words = arg.split(',')
  for word in words:
    if word not in (*DATA, *SETTINGS, *WORDS):
      raise ValueError(f'{word} is none of {", ".join((*DATA, *SETTINGS, *WORDS))}')
  data = next((word for word in words if word in DATA), 'i21k')
  usual = USUAL.get(size, OTHERS)[data == 'i21k']
  return size, data, next((word for word in words if word in SETTINGS), usual), words


def get_sweep(arg: str = 'B/32,pets') -> list[dict]:
  size, data, _, _ = _words(arg)
  if (size, data) not in GRIDS:
    return [{}]
  epochs, rates, decays = GRIDS[size, data]
  return [
    {'epochs': float(e), 'optim.lr': lr, 'optim.weight_decay': wd / lr}
    for e in epochs
    for lr in rates
    for wd in decays
  ]


def get_config(arg: str = 'B/16,i21k') -> ConfigDict:
  size, data, setting, words = _words(arg)
  name, train, val, test, classes, bias = DATA[data]
  layers, magnitude, mixup = SETTINGS[setting]
  c = ConfigDict()
  c.name = 'augreg_' + arg.replace('/', '_').replace(',', '_')
  c.epochs = 30.0 if '30' in words else 300.0
  c.batch_size = 4096
  rate = 0.1 if 'reg' in words else 0.0
  mean = 'big_vision' in words and data == 'i21k'
  c.model = ConfigDict(
    dict(
      name=size,
      pool='mean' if mean else 'cls',
      representation='head' in words or 'big_vision' in words and data == 'i1k',
      posemb_std=0.0 if 'big_vision' in words else 0.02,
      head_bias=bias,
      dropout=rate,
      stochastic_depth=rate,
      dtype='bfloat16',
    )
  )
  c.data = ConfigDict(
    dict(
      name=name,
      num_classes=classes,
      train=train,
      image_size=(224, 224),
      crop='inception',
      eval_interpolation='bilinear',
    )
  )
  c.augment = ConfigDict(dict(mixup=mixup))
  if layers:
    c.augment.update(auto='rand_augment', rand_layers=layers, rand_magnitude=float(magnitude))
  c.loss = ConfigDict(dict(name='sigmoid' if data in ('i1k', 'i21k') else 'softmax'))
  c.optim = ConfigDict(
    dict(
      lr=1e-3,
      weight_decay=0.03 if 'wd0.03' in words else 0.1,
      clip_norm=1.0,
      mu_dtype='bfloat16',
      schedule='cosine',
      warmup=dict(steps=10_000),
    )
  )
  if (size, data) in GRIDS:  # the rates of the paper's best are not said; these are its middle
    epochs, rates, decays = (values[len(values) // 2] for values in GRIDS[size, data])
    c.epochs = float(epochs)
    c.optim.update(lr=rates, weight_decay=decays / rates)
    c.optim.warmup = ConfigDict(dict(epochs=c.epochs / 10))
  c.evals = ConfigDict(dict(val=dict(split=val, every=dict(epochs=c.epochs / 30))))
  if test:
    c.evals.test = ConfigDict(dict(split=test))
  c.checkpoint = ConfigDict(dict(best='val/top1'))
  return c
