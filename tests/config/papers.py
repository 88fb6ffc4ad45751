"""What the fields of tests/golden/paper_recipes.json mean in keys of ours.

The file has 89 recipes of the field, read from papers and repositories; the field `source` of each
says where. tests/golden/augreg_aug_settings.csv: arXiv:2106.10270 section 3.3.

`VARIANTS` names what trains each of them. `expected` gives, for a field and its value, the values
that our keys must have: an item of `Any_of` for each variant, all of which must occur.
"""

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

from vit_jax import config
from vit_jax.config.recipes import load_sweep

GOLDEN = Path(__file__).parents[1] / 'golden'
RECORDS = {row['id']: row for row in json.loads((GOLDEN / 'paper_recipes.json').read_text())}
SETTINGS = {
  row['setting']: row for row in csv.DictReader((GOLDEN / 'augreg_aug_settings.csv').open())
}
# What recipes leave to their user.
GIVEN = {
  'vit_jft': {'data.name': 'jft'},
  'scaling_vit': {'data.name': 'jft'},
  'finetune': {'init_from': 'run'},
}
TEACHER = {'loss.distill.teacher_weights': 'run'}

# (recipes, field) -> why ours differs. Field '*' is every one: the recipe is not ours.
EXCEPTIONS = {
  ('vit_paper/pretrain/*/JFT-300M', 'dataset'): 'JFT-300M is not public: its user names the data',
  ('scaling_vit/vit_g14_config', 'dataset'): 'JFT-3B is not public: its user names the data',
  ('vit_paper/self_supervised_masked_patch', '*'): 'another objective: masked patches',
  ('big_vision/gsam_vit_i1k', '*'): 'GSAM, whose gradient is taken at other weights',
  ('deit/distill', 'teacher'): 'RegNetY is not among our models; ResNet-152 is the usual one here',
  ('deit3/deit_huge_patch14_LS/1k_from_scratch@160', 'resolution'): '160 px are no 14 px patches',
  ('deit3/deit_huge_patch14_LS/21k_pre-train@128', 'resolution'): '128 px are no 14 px patches',
  ('deit/pretrain', 'repo_defaults.cooldown_epochs'): (
    'main.py counts --epochs and drops the length that timm returns, so they are never trained'
  ),
}


class Variant(NamedTuple):
  """A phase of one of our recipes."""

  spec: str
  phase: int = 0
  model: str = ''  # of theirs, if the recipe is for several

  @property
  def experiment(self) -> config.Experiment:
    name, _, arg = self.spec.partition(':')
    teacher = TEACHER if {'distilled', 'soft'} & {*arg.split(',')} else {}
    return config.recipe(self.spec, GIVEN.get(name, {}) | teacher).phases[self.phase]


def variants(id: str) -> list[Variant]:
  """What trains a recipe; none of those that are not ours."""
  if id in VARIANTS:
    return VARIANTS[id]
  source, _, rest = id.partition('/')
  if source == 'vit_paper' and rest.startswith('pretrain/'):
    return _vit_paper(RECORDS[id])
  if source == 'deit3':
    return [_deit3(*rest.split('/'))]
  if source == 'deit3-jax':
    return [_deit3_jax(rest)]
  return []


def _vit_paper(record: dict[str, Any]) -> list[Variant]:
  file = {'JFT-300M': 'vit_jft', 'ImageNet-21k': 'vit_i21k', 'ImageNet': 'vit_i1k'}
  models = record['models'] if record['models'] != ['ViT-*'] else ['ViT-B/16', 'ViT-L/32']
  found = []
  for model in models:
    for epochs in record['epochs'].split('/'):
      size = model.replace('+ViT-', '+').removeprefix('ViT-')
      length = f',{epochs}' if '/' in record['epochs'] else ''
      found.append(Variant(f'{file[record["dataset"]]}:{size}{length}', model=model))
  return found


def _deit3(model: str, command: str) -> Variant:
  size = {'small': 'S/16', 'base': 'B/16', 'large': 'L/16', 'huge': 'H/14'}[model.split('_')[1]]
  what, _, pixels = command.partition('@')
  data = ',21k' if '21k' in what else ''
  if pixels == '384':
    return Variant(f'deit3:{size},384', -1)
  return Variant(f'deit3:{size}{data}', 1 if 'fine-tune' in what else 0)


def _deit3_jax(name: str) -> Variant:
  first, _, then = name.partition('-ft-')
  words = first.split('-')
  size = {'t16': 'Ti/16', 's16': 'S/16', 'b16': 'B/16', 'l16': 'L/16', 'h14': 'H/14'}[words[1]]
  epochs = words[-1].removesuffix('ep')
  if words[0] == 'deit':
    return Variant(f'deit3_jax:deit,{size}')
  data = '21k,' if 'in21k' in words else ''
  return Variant(f'deit3_jax:{size},{data}{epochs}', 1 if then else 0)


SIZES = ('Ti/16', 'S/32', 'S/16', 'B/32', 'B/16', 'L/16')
FINETUNED = ('imagenet2012', 'cifar100', 'cifar10', 'oxford_iiit_pet', 'oxford_flowers102', 'vtab')
CAIT = ('XXS24', 'XXS36', 'XS24', 'XS36', 'S24', 'S36', 'S48', 'M24', 'M36', 'M48')
VARIANTS: dict[str, list[Variant]] = {
  'vit_paper/finetune': [Variant(f'finetune:{name}') for name in FINETUNED],
  'vit_repo/finetune_default': [
    Variant(f'finetune:{name},repo') for name in ('cifar10', 'cifar100', 'imagenet2012')
  ],
  'vit_repo/augreg_finetune_default': [Variant('finetune:oxford_iiit_pet,augreg_repo')],
  'augreg/pretrain': [
    Variant(f'augreg:B/16,{word}')
    for setting in SETTINGS
    for word in (f'i1k,{setting}', f'i21k,30,{setting},reg', f'i21k,{setting},wd0.03', 'i1k,head')
  ],
  'augreg/finetune': [
    Variant(f'finetune:{name},augreg{size}')
    for name in ('imagenet2012', 'oxford_iiit_pet', 'kitti', 'cifar100', 'resisc45', 'vtab')
    for size in ('', ',224')
  ],
  'augreg/from_scratch_small_data': [
    Variant(f'augreg:{size},{name}') for size in ('B/32', 'B/16') for name in ('pets', 'resisc45')
  ],
  'big_vision/vit_i1k.py': [Variant(f'augreg:{s},i1k,big_vision', model=s) for s in SIZES],
  'big_vision/vit_i21k.py': [Variant(f'augreg:{s},i21k,big_vision', model=s) for s in SIZES],
  'better_baselines/vit_s16_i1k': [Variant(f'vit_s16_i1k:{e}') for e in (90, 150, 300)],
  'deit/pretrain': [Variant(f'deit:{s}/16', model=f'DeiT-{s}') for s in ('Ti', 'S', 'B')],
  'deit/vit_b_column': [Variant('vit_i1k:B/16,deit')],
  'deit/distill': [
    Variant('deit:B/16,distilled'),
    Variant('deit:B/16,distilled,1000'),
    Variant('deit:B/16,soft'),
  ],
  'deit/finetune_384': [Variant('deit:B/16,384', 1)],
  'cait/pretrain': [Variant(f'cait:{size}', model=size) for size in CAIT],
  '3things/baseline': [
    Variant(f'three_things:{size}/16{word}', model=size)
    for size in ('Ti', 'S', 'B', 'L')
    for word in ('', ',layerscale')
  ],
  'scaling_vit/pretrain': [Variant('scaling_vit:L/16'), Variant('scaling_vit:g/14')],
  'scaling_vit/vit_g14_config': [Variant('scaling_vit:g/14')],
  'scaling_vit/finetune': [
    Variant('finetune:imagenet2012,scaling_vit'),
    Variant('finetune:imagenet2012,scaling_vit,518'),
    Variant('finetune:imagenet2012,scaling_vit,G'),
  ],
  'sovit/shape_sweeps': [Variant('scaling_vit:So400m/14,sovit')],
  'sovit/finetune': [
    Variant(f'finetune:imagenet2012,sovit{size}') for size in ('', ',224', ',518')
  ],
  'big_vision/bit_i1k.py': [Variant('bit:R50x1')],
  'big_vision/bit_i21k.py': [Variant('bit:R50x1,i21k')],
  'big_vision/transfer.py': [
    Variant(f'finetune:{name},big_vision')
    for name in ('cifar10', 'cifar100', 'imagenet2012', 'oxford_iiit_pet', 'oxford_flowers102')
  ],
}


def value_of(x: config.Experiment, key: str) -> Any:
  """The value of a key with dots; 'sweep.KEY' is not one of them."""
  value: Any = x
  for part in key.split('.'):
    if isinstance(value, config.Model) and part != 'name':
      value = value.options
    value = value[part] if isinstance(value, dict) else getattr(value, part)
  return value


def sweep(variant: Variant, key: str) -> set[Any]:
  """The values of a key that `get_sweep` of the recipe tries."""
  return {run[key] for run in load_sweep(variant.spec)}
