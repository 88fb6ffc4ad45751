"""Row 1: every recipe of the field, field by field, against what trains it here."""

import math
from fnmatch import fnmatch

import pytest

from tests.config.paper_fields import ABOUT, FIELDS, AnyOf
from tests.config.papers import EXCEPTIONS, RECORDS, SETTINGS, sweep, value_of, variants
from vit_jax import models
from vit_jax.config.recipes import load_sweep
from vit_jax.weights.stored import own_resize


def close(ours, theirs):
  if isinstance(ours, float) and isinstance(theirs, float | int):
    return math.isclose(ours, theirs, rel_tol=1e-9)
  return type(ours) is type(theirs) and ours == theirs


def per_dataset(value, found, record):
  """Steps, warm-up and rates of each data set; the names are the paper's, or TFDS's."""
  names = {
    'ImageNet': 'imagenet2012', 'ImageNet-1k': 'imagenet2012', 'CIFAR100': 'cifar100',
    'CIFAR-100': 'cifar100', 'CIFAR10': 'cifar10', 'Oxford-IIIT Pets': 'oxford_iiit_pet',
    'Pets37': 'oxford_iiit_pet', 'Oxford Flowers-102': 'oxford_flowers102',
    'VTAB (19 tasks)': 'vtab', 'Kitti-distance': 'kitti', 'Resisc45': 'resisc45',
  }  # fmt: skip
  by_name = {}
  for variant in found:
    by_name.setdefault(variant.experiment.images.name, []).append(variant)
  for theirs, row in value.items():
    for variant in by_name[names.get(theirs, theirs)]:
      x = variant.experiment
      if 'steps' in row:
        assert x.steps == row['steps'], theirs
      if 'warmup' in row:
        assert x.optim.warmup.steps == row['warmup'], theirs
      for key in ('lr', 'lr_grid'):
        if key in row:
          assert sweep(variant, 'optim.lr') == set(row[key]), theirs
      if 'steps_warmup' in row:
        runs = load_sweep(variant.spec)
        pairs = {(run['steps'], run['optim.warmup.steps']) for run in runs}
        assert pairs == {tuple(pair) for pair in row['steps_warmup']}, theirs


def vtab(value, found, record):
  if record['id'] == 'scaling_vit/finetune':
    runs, steps = load_sweep('finetune:vtab,scaling_vit'), {2500}
    assert found[0].experiment.steps == 20_000
  else:
    runs = load_sweep('finetune:vtab,augreg')
    steps = {run['steps'] for run in runs}
  lr, length = value['lr'], value['steps']
  assert {run['optim.lr'] for run in runs} == {*lr} if isinstance(lr, list) else {lr}
  assert steps == ({*length} if isinstance(length, list) else {length})


def grids(value, found, record):
  by_name = {variant.spec.removeprefix('augreg:'): variant for variant in found}
  for name, grid in value.items():
    size, data = name.split()
    runs = load_sweep(by_name[f'{size},{"pets" if data == "Pets37" else "resisc45"}'].spec)
    assert {run['epochs'] for run in runs} == {*grid['epochs']}
    assert {run['optim.lr'] for run in runs} == {*grid['lr']}
    products = {round(run['optim.lr'] * run['optim.weight_decay'], 9) for run in runs}
    assert products == {*grid['wd']}  # theirs is not times lr
    assert len(runs) == math.prod(len(values) for values in grid.values())


def dev_split(value, found, record):
  """The part of the training images that picks the learning rate."""
  shares = {'Pets': '10%', 'Flowers': '10%', 'CIFAR': '2%', 'ImageNet': '1%'}
  assert value == {'Pets,Flowers': '10%', 'CIFAR': '2%', 'ImageNet': '1%'}
  kinds = {
    'oxford_iiit_pet': 'Pets', 'oxford_flowers102': 'Flowers', 'cifar10': 'CIFAR',
    'cifar100': 'CIFAR', 'imagenet2012': 'ImageNet',
  }  # fmt: skip
  for variant in found:
    x = variant.experiment
    if x.images.name not in kinds:
      continue
    kept = 100 - int(shares[kinds[x.images.name]].rstrip('%'))
    assert x.images.train == f'train[:{kept}%]' and x.evals['val'].split == f'train[{kept}%:]'


def table2_extra(value, found, record):
  from vit_jax import config

  assert value == '512px (L/16) or 518px (H/14), Polyak averaging 0.9999'
  for pixels in (512, 518):
    x = config.recipe(f'finetune:imagenet2012,{pixels}', {'init_from': 'run'})
    assert x.images.image_size == (pixels, pixels) and x.optim.ema == 0.9999


def lr_grid(value, found, record):
  assert all(sweep(variant, 'optim.lr') == {*value} for variant in found)


def hard(value, found, record):
  assert value['weights'] == '0.5 CE(label) + 0.5 CE(teacher argmax)'
  distill = [v.experiment.loss.distill for v in found if 'soft' not in v.spec]
  assert {(d.kind, d.alpha) for d in distill} == {('hard', 0.5)} and len(distill) == 2


def soft(value, found, record):
  (distill,) = (v.experiment.loss.distill for v in found if 'soft' in v.spec)
  assert (distill.kind, distill.tau, distill.alpha) == ('soft', value['tau'], value['lam'])


def datasets(value, found, record):
  """AugReg's data sets and lengths."""
  trained = {(v.experiment.images.name, v.experiment.epochs) for v in found}
  names = {'ImageNet-1k': 'imagenet2012', 'ImageNet-21k': 'imagenet21k'}
  said = [row.split() for row in value]
  assert trained == {(names[name], float(epochs.removesuffix('ep'))) for name, epochs in said}


def per_resolution(value, found, record):
  """SoViT's."""
  for variant in found:
    x = variant.experiment
    row = value[str(x.images.image_size[0])]
    assert x.optim.layer_decay == row['layerwise_lr_decay']
    layers, magnitude = row.get('randaug', (0, 0))
    assert x.augment.auto == ('rand_augment' if layers else 'none')
    if layers:
      assert (x.augment.rand_layers, x.augment.rand_magnitude) == (layers, magnitude)
    assert x.augment.mixup == row.get('mixup', 0.0)
  assert {str(v.experiment.images.image_size[0]) for v in found} == {*value}


def pretrained(value, found, record):
  assert all((variant.experiment.init_from == 'last') == value for variant in found)


def posemb_interp(value, found, record):
  for variant in found:
    x = variant.experiment
    assert own_resize(models.build(x.model.name, 0, x.model.options)) == value


def augment_grid(value, found, record):
  """All seven settings, with and without dropout and stochastic depth, and both decays."""
  assert value == 'augreg_aug_settings.csv (7 settings); 28 configurations in all'
  got = set()
  for variant in found:
    a = variant.experiment.augment
    auto = a.auto != 'none'
    got.add((auto * a.rand_layers, auto * a.rand_magnitude, a.mixup))
  rows = SETTINGS.values()
  keys = ('randaug_layers', 'randaug_magnitude', 'mixup_alpha')
  assert got == {tuple(float(row[key]) for key in keys) for row in rows}


SPECIAL = {
  function.__name__: function
  for function in (
    posemb_interp, per_dataset, vtab, grids, dev_split, table2_extra, lr_grid, hard, soft, datasets,
    per_resolution, pretrained, augment_grid,
  )
}  # fmt: skip


def differences(record: dict) -> list[str]:
  """Fields of a recipe that are otherwise here, or that nothing here says."""
  found, faults = variants(record['id']), []
  if not found:
    return ['*']
  for field, value in record.items():
    if field in ABOUT:
      continue
    if field in SPECIAL:
      SPECIAL[field](value, found, record)
      continue
    if field not in FIELDS:
      faults.append(f'{field}: no key says it')
      continue
    wanted, got = {}, {}
    for variant in found:
      x = variant.experiment
      for key, theirs in FIELDS[field](value, x, variant, record).items():
        if key.startswith('repo_defaults.'):  # of theirs, which no key says
          faults.append(key)
          continue
        ours = value_of(x, key)
        choices = theirs if isinstance(theirs, AnyOf) else (theirs,)
        if not any(close(ours, choice) for choice in choices):
          faults.append(f'{field}: {variant.spec} has {key}={ours!r}, not {theirs!r}')
        wanted.setdefault(key, set()).update(choices)
        got.setdefault(key, set()).add(ours)
    faults += [
      f'{field}: no variant has {key}={missing}'
      for key in wanted
      if not faults
      and (missing := {v for v in wanted[key] if not any(close(o, v) for o in got[key])})
    ]
  return faults


@pytest.mark.parametrize('id', RECORDS)
def test_recipe_field_by_field(id):
  allowed = {field for pattern, field in EXCEPTIONS if fnmatch(id, pattern)}
  faults = differences(RECORDS[id])
  assert not [fault for fault in faults if fault.partition(':')[0] not in allowed]
  assert {fault.partition(':')[0] for fault in faults} == allowed, 'an exception that is none'


def test_the_exceptions_are_few_and_have_reasons():
  assert len(EXCEPTIONS) <= 10 and all(len(reason) > 20 for reason in EXCEPTIONS.values())
  assert len(RECORDS) == 89
  assert all(any(fnmatch(id, pattern) for id in RECORDS) for pattern, _ in EXCEPTIONS)


def test_a_number_that_differs_is_found():
  """Each field with a number, in the first recipe that has it."""
  seen = set()
  for id, record in RECORDS.items():
    if not variants(id):
      continue
    before = len(differences(record))
    for field, value in record.items():
      if field in ABOUT or field in seen or type(value) not in (int, float):
        continue
      seen.add(field)
      changed = {**record, field: type(value)(2 * value + 1)}
      assert len(differences(changed)) > before, f'{id} {field}'
  assert len(seen) > 30
