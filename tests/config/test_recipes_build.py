"""Every recipe as the train step it is, without a number computed."""

import dataclasses

import jax
import pytest
from all_recipes import RECIPES, resolved

from vit_jax import config
from vit_jax.parallel import mesh as meshes
from vit_jax.train.domain import Sizes
from vit_jax.train.trainer import Trainer

PHASES = [
  (spec, phase)
  for spec in RECIPES
  if 'bag' not in spec
  for phase in range(len(resolved(spec).phases))
]


# BiT and the hybrids have many layers of different shapes.
LONG = ('bit:', 'R50x2', 'R26+S')


@pytest.mark.parametrize(
  'spec, phase',
  [
    pytest.param(*each, marks=[pytest.mark.slow] * any(part in each[0] for part in LONG))
    for each in PHASES
  ],
)
def test_every_recipe_builds_abstractly(spec, phase):
  x = dataclasses.replace(resolved(spec).phases[phase], then=None)
  if hasattr(x.model.options, 'unroll'):  # as straight code, layers take seconds to trace
    x = config.update(x, {'model.unroll': False})
  if text := isinstance(x.data, config.PairData):
    num_classes, sizes = 700, Sizes(40_000, 700, num_batches=300)
  else:
    num_classes = x.data.num_classes or 7
    sizes = Sizes(303_000_000 if x.data.name == 'jft' else 1_281_167, num_classes)
  trainer = Trainer(x, 'nowhere', mesh=meshes.make_mesh(x.mesh, jax.devices()[:1]), sizes=sizes)
  state, metrics = jax.eval_shape(
    trainer.train_step,
    trainer.abstract_state,
    trainer.abstract_batch,
    *trainer.abstract_frozen,
  )
  same = jax.tree.map(
    lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, trainer.abstract_state
  )
  assert all(jax.tree.leaves(same))
  sums = {'loss', 'accuracy', 'tokens'} if text else {'loss', 'top1', 'examples'}
  assert trainer.steps > 0 and set(metrics) == {*sums, 'grad_norm', 'skipped', 'in_a_row'}
  if text:
    tables = {name: part for name, part in state.params['lexicon'].items() if name != 'head'}
    assert 'target' in tables
    assert all(part['table'].shape[0] == num_classes for part in tables.values())
  else:
    assert state.params['head']['kernel'].shape[-1] == num_classes
