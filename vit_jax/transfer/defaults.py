"""What fine-tuning on data of one's own begins with, by the size of the data and of its images.

It is an ordinary recipe: `recipe` gives an `Experiment`, which trains as any other.

    images     three times their median shorter side, but no more than the weights saw, nor than 224
               px where the images have no more; a multiple of the patch
    epochs     50,000 images seen, from 5 to 50 epochs; a tenth of them warm-up
    optimizer  AdamW with cosine decay at 5e-4 for a batch of 64, growing with its square root,
               weight decay 0.05, clip 1; each layer has 0.75 of the rate of the next, the head ten
               times the rate; of networks without layer decay a quarter of the rate; averaged
               weights
    training   crops of at least a third of an image, flipped left-right; labels smoothed 0.1

How the weights saw images is kept: mean, deviation, crop, interpolation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vit_jax import config, weights
from vit_jax.config import Experiment, ImageData
from vit_jax.data import sources
from vit_jax.errors import UserError
from vit_jax.fields import merged
from vit_jax.models.options import TransformerOptions
from vit_jax.weights import Opened

SAMPLE = 64  # images whose sizes are read
SEEN, FEWEST, MOST = 50_000, 5, 50  # images; epochs
MAGNIFIED, USUAL = 3, 224
HEAD = 10.0  # of a fresh head, times the rate
BACKBONE = r'^(?!(head|head_dist)/)'
EVALS = ('test', 'val', 'validation')  # where two are the same images, the first names them


@dataclass(frozen=True)
class Found:
  """What there is to fine-tune on.

  Attributes:
    data: how it is opened.
    count, classes: training images, and names of classes.
    side: median of the shorter sides, in pixels.
    splits: of `EVALS`, those that are not the same images; the one to report is the last.
  """

  data: ImageData
  count: int
  classes: tuple[str, ...]
  side: int
  splits: tuple[str, ...]


def look(data: str, data_dir: Path) -> Found:
  """Opens data: a folder of images, or the name of a data set.

  Raises:
    UserError: there is none, or it has nothing to evaluate on.
  """
  folder = Path(data).expanduser()
  named = ImageData(name='folder', dir=str(folder)) if folder.is_dir() else ImageData(name=data)
  source = sources.open_source(named, named.train, data_dir)
  if len(source) == 0:
    raise UserError(f'--data: {data} has no training images')
  splits: dict[str, str] = {}
  faults = []
  for split in EVALS:
    try:
      splits.setdefault(sources.open_source(named, split, data_dir).digest(), split)
    except UserError as error:
      faults.append(error)
  if not splits:
    raise faults[-1]
  places = np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int)
  sides = [_shorter(record) for record, _ in source.read([int(place) for place in places])]
  side = int(np.median([side for side in sides if side] or [USUAL]))
  names = sorted(splits.values(), key=lambda name: name == 'test')
  return Found(named, len(source), source.class_names, side, tuple(names))


def _shorter(record: sources.Record) -> int:
  """The shorter side in pixels, from the header alone; 0 if it cannot be read."""
  if isinstance(record, np.ndarray):
    return min(record.shape[:2])
  try:
    with Image.open(BytesIO(record)) as image:
      return min(image.size)
  except (OSError, ValueError, Image.DecompressionBombError):
    return 0  # training says which one it is


def recipe(
  source: str,
  found: Found,
  *,
  frozen: bool = False,
  updates: Mapping[str, Any] = {},
  **opening: Any,
) -> tuple[Experiment, str]:
  """(the experiment, one line that says what was decided).

  Args:
    source, opening: the weights, as `weights.open` takes them.
    frozen: train the head alone.
    updates: of the recipe, which come last; what hangs on them follows.

  Raises:
    UserError: there are no such weights, or a key does not fit.
  """
  opened = weights.open(source, num_classes=len(found.classes), new_head=True, **opening)
  values = _values(opened, found, frozen)
  changed = config.resolve(merged(values, updates, Experiment))
  steps = changed.length.to_steps(changed.batch_size, found.count)
  values['optim'] |= _rate(opened, frozen, changed.batch_size) | _ends(steps)
  x = config.resolve(merged(values, updates, Experiment))
  return x, _line(opened, found, x, frozen, steps)


def _values(opened: Opened, found: Found, frozen: bool) -> dict[str, Any]:
  inputs, options = opened.model.inputs, opened.model_keys
  if options.get('width', 0) >= 768 and not frozen and 'stochastic_depth' in options:
    options['stochastic_depth'] = 0.1
  elif 'stochastic_depth' in options:
    options['stochastic_depth'] = 0.0
  batch = 64 if found.count < 20_000 else 128 if found.count < 200_000 else 512
  while batch > 8 and batch * 8 > found.count:
    batch //= 2
  first, last = found.splits[0], found.splits[-1]
  epochs = min(MOST, max(FEWEST, round(SEEN / found.count)))
  evals = {'test': {'split': last, 'every': {'epochs': max(1.0, epochs // 10)}}}
  best = ''
  if first != last:
    evals = {'val': {**evals['test'], 'split': first}, 'test': {'split': last}}
    best = 'val/top1'
  return {
    'name': 'finetune',
    'epochs': float(epochs),
    'batch_size': batch,
    'init_from': opened.source,
    'model': options,
    'data': {
      'name': found.data.name,
      'dir': found.data.dir,
      'image_size': _image_size(opened, found.side),
      'channels': len(inputs.mean),
      'mean': inputs.mean,
      'std': inputs.std,
      'crop': 'random_resized',
      'crop_area': (0.33, 1.0),
      'interpolation': inputs.interpolation,
      'eval_crop': inputs.crop,
      'eval_interpolation': inputs.interpolation,
      'eval_aspect': inputs.aspect,
      'eval_antialias': inputs.antialias,
    },
    'loss': {'label_smoothing': 0.1},
    'optim': {'name': 'adamw', 'schedule': 'cosine', 'weight_decay': 0.05, 'clip_norm': 1.0},
    'evals': evals,
    'checkpoint': {'best': best},
  }


def _rate(opened: Opened, frozen: bool, batch: int) -> dict[str, Any]:
  lr = 5e-4 * (batch / 64) ** 0.5
  if frozen:
    groups = {'backbone': {'match': BACKBONE, 'freeze': True}}
    return {'lr': HEAD * lr, 'groups': groups}
  groups = {'head': {'match': '^(head|head_dist)/', 'lr': HEAD}}
  if isinstance(opened.model.options, TransformerOptions):
    return {'lr': lr, 'layer_decay': 0.75, 'groups': groups}
  return {'lr': lr / 4, 'groups': groups}


def _ends(steps: int) -> dict[str, Any]:
  """A tenth of warm-up, and weights averaged over about the last tenth."""
  ema = min(0.9999, max(0.8, 1 - 10 / steps))
  return {'warmup': {'steps': max(1, round(steps / 10))}, 'ema': round(ema, 4), 'ema_warmup': True}


def _image_size(opened: Opened, side: int) -> tuple[int, int]:
  """(H, W) for images of a shorter side."""
  own, options = opened.model.inputs.size, opened.model.options
  multiple = getattr(options, 'patch', 0) or (32 if hasattr(options, 'stages') else 0)
  if not multiple:  # layers that hang on the size
    return own
  most = max(own) if side > USUAL else min(max(own), max(USUAL // multiple, 1) * multiple)
  wanted = min(most, max(2, round(MAGNIFIED * side / multiple)) * multiple)
  if wanted >= max(own):
    return own
  height, width = (max(1, round(wanted * part / max(own) / multiple)) * multiple for part in own)
  return height, width


def _line(opened: Opened, found: Found, x: Experiment, frozen: bool, steps: int) -> str:
  height, width = x.images.image_size
  o, own = x.optim, opened.model.inputs.size
  epochs = x.epochs or steps * x.batch_size / found.count
  what = 'the head of' if frozen else 'all of'
  parts = [
    f'fine-tuning {what} {x.model.name}',
    f'{found.count:,} training images of {len(found.classes)} classes, median {found.side} px',
    f'seen at {height}x{width} (the weights: {own[0]}x{own[1]})',
    f'{epochs:.3g} epochs = {steps:,} steps of {x.batch_size}, '
    f'{o.warmup.to_steps(x.batch_size, found.count):,} of warm-up',
    f'{o.name}, lr {o.lr:.2e}, weight decay {o.weight_decay:g}',
  ]
  parts += [f'each layer {o.layer_decay:g} of the rate of the next'] * (o.layer_decay < 1)
  parts += [
    f'{name} {"frozen" if group.freeze else f"at {group.lr:g} times the rate"}'
    for name, group in o.groups.items()
  ]
  parts += [f'averaged weights {o.ema:g}'] * bool(o.ema)
  parts += ['flipped left-right'] * x.images.flip
  judged = [f'{name} on {line.split}' for name, line in x.evals.items()]
  best = f', best by {x.checkpoint.best}' if x.checkpoint.best else ''
  parts.append(f'judged: {", ".join(judged)}{best}')
  if frozen and 'batch_stats' in opened.variables:
    parts.append('the statistics of its BatchNorms still follow the data')
  return f'{"; ".join(parts)}. --config.KEY=VALUE changes any of it'
