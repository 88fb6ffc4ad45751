"""Fields of the papers' recipes -> the values that keys of ours must have."""

import re
from collections.abc import Callable
from typing import Any

from tests.config.paper_words import (
  AUTO,
  IMAGENET,
  LOSSES,
  MODELS,
  OPTIMIZERS,
  POOLS,
  TIMM,
  Expected,
)
from tests.config.papers import SETTINGS, Variant
from vit_jax.config import Experiment

# Fields that say nothing about training, or what another field says.
ABOUT = {
  'id', 'paper', 'phase', 'repo', 'source', 'note', 'wall_clock', 'expected', 'gpus', 'nodes',
  'batch_per_gpu', 'dataset_size', 'lr_scaling', 'other', 'weight_decay_note', 'dropout_where',
}  # fmt: skip


class AnyOf(tuple):
  """Each variant has one of these values, and each of these is some variant's."""


def model(name: str) -> Expected:
  ours, options = MODELS.get(name, (name.removeprefix('ViT-'), {}))
  return {'model.name': ours, **{f'model.{key}': value for key, value in options.items()}}


def number(text: str) -> float:
  return float(text.split()[0])


def scaled(value: Any, x: Experiment) -> float:
  """A rate that may be said for a number of images, such as '0.1/256*batch'."""
  if found := re.match(r'([\d.e-]+)/256\*batch', str(value)):
    return float(found[1]) * x.batch_size / 256
  if found := re.match(r'([\d.e-]+) \* batch/512', str(value)):
    return float(found[1]) * x.batch_size / 512
  return float(value)


def schedule(text: str, record: dict[str, Any]) -> Expected:
  timm = record.get('repo') == 'facebookresearch/deit' or record['id'] == 'deit/pretrain'
  if text == 'cosine (flat + Polyak averaging for G)':
    return {'optim.schedule': AnyOf(('cosine', 'constant')), 'optim.ema': AnyOf((0.0, 0.9999))}
  if text.startswith('cosine'):
    warmup = {'optim.warmup.steps': 500} if '500-step' in text else {}
    return {'optim.schedule': 'timm_cosine' if timm else 'cosine', **warmup}
  if text.startswith('rsqrt'):
    return {
      'optim.schedule': 'rsqrt',
      'optim.timescale': 10_000,
      'optim.warmup.steps': 10_000,
      'optim.cooldown.steps': 50_000,
    }
  assert text == 'linear', text
  return {'optim.schedule': 'linear', 'optim.end_lr': 0.0}


def weight_decay(value: Any, x: Experiment) -> Expected:
  if isinstance(value, dict):  # of the head and of the rest
    factor = value['head'] / value['body']
    return {'optim.weight_decay': value['body'], 'optim.groups.head.weight_decay': factor}
  if value == '0.03 * 8e-4':  # times lr: the product
    return {'optim.weight_decay': 0.03, 'optim.lr': 8e-4}
  if isinstance(value, str):  # big_vision's is times lr / the largest lr
    return {'optim.weight_decay': scaled(value, x) / x.optim.lr}
  return {'optim.weight_decay': float(value), 'optim.decay': 'decoupled'}


def epochs(value: Any, record: dict[str, Any]) -> Expected:
  if isinstance(value, list):
    return {'epochs': AnyOf(float(item) for item in value)}
  numbers = [float(item) for item in re.findall(r'(?<![\d.])\d+', str(value))]
  return {'epochs': AnyOf(numbers) if len(numbers) > 1 else numbers[0]}


def steps(value: Any, x: Experiment) -> Expected:
  return {'steps': value[x.images.name] if isinstance(value, dict) else value}


def augment_setting(name: str) -> Expected:
  row = SETTINGS[name]
  layers, mixup = int(row['randaug_layers']), float(row['mixup_alpha'])
  if not layers:
    return {'augment.auto': 'none', 'augment.mixup': mixup}
  return {
    'augment.auto': 'rand_augment',
    'augment.rand_layers': layers,
    'augment.rand_magnitude': float(row['randaug_magnitude']),
    'augment.mixup': mixup,
  }


def auto(value: Any) -> Expected:
  if isinstance(value, dict):
    value = {'auto': 'rand_augment', 'rand_layers': value['layers'],
             'rand_magnitude': float(value['magnitude'])}  # fmt: skip
  else:
    value = AUTO[value]
  return {f'augment.{key}': item for key, item in value.items()}


def jitter(value: float, x: Experiment) -> Expected:
  """timm leaves color jitter out beside RandAugment (timm/data/transforms_factory.py)."""
  factor = 0.0 if x.augment and x.augment.auto == 'timm_rand_augment' else value
  return {f'augment.{name}': factor for name in ('brightness', 'contrast', 'saturation')}


def resolution(value: Any) -> Expected:
  if isinstance(value, int):
    return {'data.image_size': (value, value)}
  assert value == '384 (518 for g/G)'
  return {'data.image_size': AnyOf(((384, 384), (518, 518)))}


def crop(value: Any) -> Expected:
  if isinstance(value, int):  # pixels, of an image of `resize` pixels
    return {'data.crop': 'resized', 'data.image_size': (value, value)}
  crops = {'inception': 'inception', 'rrc': 'random_resized', 'src': 'simple'}
  area = {'inception': (0.05, 1.0), 'rrc': (0.08, 1.0)}
  return {'data.crop': crops[value]} | ({'data.crop_area': area[value]} if value in area else {})


def head(text: str, record: dict[str, Any], x: Experiment) -> Expected:
  if text.startswith('MLP with one tanh'):
    return {} if x.model.name.startswith('BiT') else {'model.representation': True}
  if text.startswith('no hidden layer'):
    return {'model.representation': AnyOf((False, True)), 'model.init': 'xavier'}
  assert text.startswith('new zero-initialised')
  return {'model.init': 'xavier', 'model.representation': False}


def repo_defaults(value: dict[str, Any]) -> Expected:
  """Defaults of facebookresearch/deit main.py."""
  if 'alpha' in value:
    return {}  # of --distillation-type hard; `hard` and `soft` say what was trained
  return {
    'optim.warmup_lr': value['warmup_lr'],
    'optim.end_lr': value['min_lr'],
    'repo_defaults.cooldown_epochs': value['cooldown_epochs'],
    'data.interpolation': value['train_interpolation'],
    'augment.erase_fill': {'pixel': 'noise'}[value['erase_mode']],
    'optim.ema': value['ema_decay'],
    'optim.ema_warmup': False,
    'data.eval_crop': value['eval_crop_ratio'],
    'model.init': {'trunc normal': 'trunc_normal'}[value['init']],
  }


def per_model(value: dict[str, Any], variant: Variant) -> Expected:
  """CaiT's sizes."""
  row = value[variant.model]
  scale = row['layerscale_init']
  return {
    'model.depth': row['sa_layers'],
    'model.class_depth': row['ca_layers'],
    'model.width': row['dim'],
    'model.heads': row['heads'],
    'model.stochastic_depth': row['drop_path'],
    # XXS36: where paper and code differ, the code.
    'model.layerscale': 1e-5 if isinstance(scale, str) else scale,
  }


def depth_rule(text: str, x: Experiment) -> Expected:
  if x.model.name.startswith('CaiT'):
    return {}  # which has no other
  return {'model.stochastic_depth_rule': text.split()[0]}


def per_size(value: Any, key: str, variant: Variant) -> Expected:
  return {key: value[variant.model]} if isinstance(value, dict) else {key: float(value)}


Field = Callable[[Any, Experiment, Variant, dict[str, Any]], Expected]


def at(key: str, change: Callable[[Any], Any] = lambda value: value) -> Field:
  return lambda value, x, variant, record: {key: change(value)}


FIELDS: dict[str, Field] = {
  'model': lambda value, x, variant, record: model(value),
  'models': lambda value, x, variant, record: (
    model(variant.model) if variant.model in value else {}
  ),
  'dataset': at('data.name', lambda value: IMAGENET.get(value, value)),
  'epochs': lambda value, x, variant, record: epochs(value, record),
  'steps': lambda value, x, variant, record: steps(value, x),
  'total_steps': at('steps'),
  'optimizer': lambda value, x, variant, record: OPTIMIZERS[value],
  'opt_eps': at('optim.eps'),
  'b1': at('optim.b1'),
  'b2': at('optim.b2'),
  'batch_size': lambda value, x, variant, record: {
    'batch_size': value if isinstance(value, int) else AnyOf((4096, 16_384))
  },
  'global_batch': at('batch_size'),
  'base_lr': lambda value, x, variant, record: {
    'optim.lr': record.get('base_lr_b16_cifar10', value) if 'cifar' in x.images.name else value
  },
  'base_lr_b16_cifar10': lambda value, x, variant, record: {},  # in base_lr
  'peak_lr': at('optim.lr'),
  'lr': lambda value, x, variant, record: (
    per_size(value, 'optim.lr', variant)
    if isinstance(value, dict)
    else {'optim.lr': scaled(value, x)}
  ),
  'lr_schedule': lambda value, x, variant, record: schedule(value, record),
  'min_lr': at('optim.end_lr'),
  'warmup_steps': lambda value, x, variant, record: {'optim.warmup.steps': value},
  'warmup_epochs': at('optim.warmup.epochs', float),
  'warmup_lr': at('optim.warmup_lr'),
  'cooldown_steps': at('optim.cooldown.steps'),
  'weight_decay': lambda value, x, variant, record: weight_decay(value, x),
  'weight_decay_coupled': lambda value, x, variant, record: {
    'optim.weight_decay': value / x.optim.lr  # big_vision's is times lr / the largest lr
  },
  'weight_decay_grid_decoupled': at('optim.weight_decay', AnyOf),
  'wd_mult_head': at('optim.groups.head.weight_decay'),
  'grad_clip_norm': at('optim.clip_norm'),
  'grad_clip': at('optim.clip_norm', {None: 0.0, 'yes': 1.0}.get),
  'clip_grad': at('optim.clip_norm'),
  'dropout': lambda value, x, variant, record: (
    {} if x.model.name.startswith('BiT') else {'model.dropout': float(value or 0)}
  ),
  'stoch_depth': lambda value, x, variant, record: per_size(
    value, 'model.stochastic_depth', variant
  ),
  'drop_path': at('model.stochastic_depth'),
  'droppath': at('model.stochastic_depth'),
  'stoch_depth_schedule': lambda value, x, variant, record: depth_rule(value, x),
  'drop_path_schedule': lambda value, x, variant, record: depth_rule(value, x),
  'no_dropout_or_stoch_depth': lambda value, x, variant, record: {
    'model.dropout': 0.0,
    'model.stochastic_depth': 0.0,
  },
  'regularization_grid': lambda value, x, variant, record: {
    'model.dropout': AnyOf(row['dropout'] for row in value),
    'model.stochastic_depth': AnyOf(row['stoch_depth'] for row in value),
  },
  'layerscale_init': at('model.layerscale'),
  'layerscale': at('model.layerscale', {True: 1e-4, False: 0.0}.get),
  'layers': at('model.depth'),
  'dim': at('model.width'),
  'heads': at('model.heads'),
  'patch': at('model.patch'),
  'labels': at('data.num_classes'),
  'num_classes': at('data.num_classes'),
  'pool': lambda value, x, variant, record: POOLS[value],
  'pooling': at('model.pool'),
  'posemb': at('model.posemb', {'learnable': 'learned', 'sincos2d (fixed)': 'sincos2d'}.get),
  'head': lambda value, x, variant, record: head(value, record, x),
  'head_init': lambda value, x, variant, record: {'model.init': 'xavier', 'model.head_bias': -6.9},
  'init_head_bias': at('model.head_bias'),
  'per_model': lambda value, x, variant, record: per_model(value, variant),
  'resolution': lambda value, x, variant, record: resolution(value),
  'resolutions': at('data.image_size', lambda value: AnyOf((side, side) for side in value)),
  'crop': lambda value, x, variant, record: crop(value),
  'resize': at('data.crop_resize', lambda value: (value, value)),
  'simple_random_crop': at('data.crop', {True: 'simple', False: 'random_resized'}.get),
  'flip': at('data.flip'),
  'eval': lambda value, x, variant, record: {
    'data.eval_crop': 224 / 256,
    'data.image_size': (224, 224),
    'data.eval_aspect': 'keep',
  },
  'eval_crop_ratio': at('data.eval_crop'),
  'test_crop_ratio': at('data.eval_crop'),
  'eval_interpolation': at('data.eval_interpolation'),
  'repeated_aug': at(
    'data.repeats',
    lambda value: {True: 3, False: 1}.get(value, value) if isinstance(value, bool) else value,
  ),  # fmt: skip
  'augment_repeats': at('data.repeats'),
  'train_split': lambda value, x, variant, record: {
    'data.train': value[x.images.name] if isinstance(value, dict) else value
  },
  'minival': at('evals.val.split'),
  'auto_augment': lambda value, x, variant, record: auto(value),
  'randaug': lambda value, x, variant, record: auto(value),
  'three_augment': lambda value, x, variant, record: (
    {'augment.auto': 'three_augment'} if value else {}  # then `auto_augment` says which
  ),
  'augment_per_variant': lambda value, x, variant, record: augment_setting(value[variant.model]),
  'augment_grid': lambda value, x, variant, record: {
    'augment.mixup': AnyOf({float(row['mixup_alpha']) for row in SETTINGS.values()} | {0.5})
  },
  'augment': lambda value, x, variant, record: AUTO_DEIT,
  'color_jitter': lambda value, x, variant, record: jitter(value, x),
  'mixup': at('augment.mixup'),
  'mixup_p': at('augment.mixup', float),
  'mixup_alpha': at('augment.mixup'),
  'cutmix': at('augment.cutmix'),
  'cutmix_alpha': at('augment.cutmix'),
  # With both, each batch is mixed by one of them, by a fair coin.
  'mixup_prob': lambda value, x, variant, record: {'augment.mixes': value == 1.0},
  'mixup_switch_prob': lambda value, x, variant, record: {'augment.mixes': value == 0.5},
  'random_erasing': at('augment.erase'),
  'label_smoothing': at('loss.label_smoothing', float),
  'loss': at('loss.name', LOSSES.get),
  'criterion': at('loss.name', LOSSES.get),
  'based_on': lambda value, x, variant, record: {
    'loss.name': 'bce',
    'optim.name': 'lamb',
    'batch_size': 2048,
  },
  'teacher': at('loss.distill.teacher.name'),
  'repo_defaults': lambda value, x, variant, record: repo_defaults(value),
}
AUTO_DEIT: Expected = {
  **{f'augment.{key}': value for key, value in TIMM.items()},
  'augment.mixup': 0.8,
  'augment.cutmix': 1.0,
  'augment.erase': 0.25,
}
