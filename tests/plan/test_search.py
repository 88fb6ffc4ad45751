"""Search on a made-up chip: arithmetic prunes, the compiler decides, the override is the plan."""

import dataclasses
import itertools
from pathlib import Path

import jax
import pytest
from plain_step import PLAIN

from vit_jax import config
from vit_jax.errors import UserError
from vit_jax.parallel import topology
from vit_jax.parallel.mesh import make_mesh
from vit_jax.plan import describe, estimate, program, search
from vit_jax.plan.program import Case
from vit_jax.train.domain import Sizes
from vit_jax.train.trainer import Trainer

SMALL = (
  *PLAIN,
  '--config.model.width=64',
  '--config.model.mlp=128',
  '--config.model.depth=6',
  '--config.batch_size=512',
)


def made_up(memory: float) -> topology.Topology:
  """Four devices of this CPU with a datasheet."""
  place = topology.parse('cpu:4')
  chip = place.chip._replace(peak=1e12, bandwidth=1e11, near=1e10, far=1e9, memory=int(memory))
  return dataclasses.replace(place, chip=chip)


def case(x: config.Experiment, memory: float = 1e9) -> Case:
  return Case(x, made_up(memory), 75, 3)


@pytest.fixture(scope='module')
def x(tiny_recipe) -> config.Experiment:
  return config.recipe(tiny_recipe, config.from_flags(SMALL))


@pytest.fixture(scope='module')
def found(x) -> list[search.Candidate]:
  return search.candidates(case(x))[0]


def test_candidates_cover_the_ways(found):
  meshes = {
    (c.experiment.mesh.replica, c.experiment.mesh.fsdp, c.experiment.mesh.tensor) for c in found
  }
  assert meshes == {(4, 1, 1), (2, 2, 1), (1, 4, 1), (2, 1, 2), (1, 2, 2)}  # tensor 4: two heads
  assert {c.experiment.model.options.remat for c in found} == {
    'none',
    'full',
    'dots',
    'names',
  }
  pairs = {(c.experiment.model.options.remat, c.experiment.optim.accumulate) for c in found}
  assert pairs == set(
    itertools.product(('none', 'full', 'dots', 'names'), (2**n for n in range(9)))
  )
  assert {c.experiment.batch_size for c in found} == {512}


def test_arithmetic_orders_what_it_should(found):
  """Less is kept with remat and with accumulation, and remat costs products."""
  by = {
    (
      c.experiment.mesh.fsdp,
      c.experiment.model.options.remat,
      c.experiment.optim.accumulate,
    ): c
    for c in found
    if c.experiment.mesh.tensor == 1
  }
  for fsdp in (1, 2, 4):
    none, full = by[fsdp, 'none', 1], by[fsdp, 'full', 1]
    assert full.bytes < by[fsdp, 'dots', 1].bytes < none.bytes
    assert by[fsdp, 'none', 4].bytes < none.bytes
    assert full.bound.compute > 1.2 * none.bound.compute
  assert by[4, 'full', 1].bytes < by[1, 'full', 1].bytes  # a quarter of the state


def test_a_convnet_is_not_divided_by_tensor(lenet_recipe):
  """Each device of the axis would do all of its work: it is not offered, nor counted as a part."""
  x = config.recipe(lenet_recipe)
  ways, _ = search.candidates(case(x))
  assert {(c.experiment.mesh.replica, c.experiment.mesh.fsdp) for c in ways} == {
    (4, 1),
    (2, 2),
    (1, 4),
  }
  assert {c.experiment.mesh.tensor for c in ways} == {1}
  alone, shared = (
    Trainer(
      x, mesh=make_mesh(config.Mesh(replica=1, tensor=n), jax.devices()[:n]), sizes=Sizes(75, 3)
    )
    for n in (1, 2)
  )
  assert estimate.activation_bytes(shared) == estimate.activation_bytes(alone) > 0


@pytest.mark.slow
def test_search_prunes_and_finds(x, found, tiny_recipe, tmp_path, monkeypatch, caplog):
  least = sorted(c.bytes for c in found)
  asked, compiled = case(x, least[len(least) // 2]), []
  caplog.set_level('DEBUG', 'vit_jax')
  real = program.compiled

  def counted(step, cache):
    compiled.append(step)
    return real(step, cache)

  monkeypatch.setattr(program, 'compiled', counted)
  monkeypatch.setattr(search, 'WANTED', 1)
  plans, place = search.search(asked, tmp_path), asked.topology
  lines = caplog.messages
  assert len(plans) == 1 and plans[0].fits
  too_large = sum(c.bytes * search.LEAST_RATIO > place.chip.memory for c in found)
  assert 0 < too_large < len(found)
  assert f'{too_large} too large by arithmetic' in lines[0]
  assert 1 <= len(compiled) <= search.MOST_COMPILED < len(found) - too_large
  assert any('fits' in line for line in lines[1:])
  # Arithmetic is near the compiler: enough to prune with, and no substitute for it.
  plan, [estimated] = plans[0], [c for c in found if c.experiment == plans[0].trainer.experiment]
  assert plan.work is not None
  assert 0.5 < estimated.bytes / plan.compiled.bytes < 2
  assert estimated.bound.compute == pytest.approx(plan.work.flops / place.chip.peak, rel=0.1)
  # What is printed to paste gives this very experiment.
  pasted = describe.search_text(plans, x).splitlines()[-1].split()
  again = config.recipe(tiny_recipe, config.from_flags((*SMALL, *pasted)))
  best = plans[0].trainer.experiment
  assert program.lower(asked._replace(experiment=again)).text == compiled[-1].text
  assert again.optim == best.optim and again.model.options == best.model.options


def test_nothing_fits(x):
  with pytest.raises(UserError, match='--search: .*config.batch_size'):
    search.search(case(x, 1e5), None)


@pytest.mark.parametrize(
  'flags, expected',
  [
    (('--config.batch_size=9',), 'config.batch_size is 9, which is not divisible by 4'),
    (
      ('--config.mesh.sequence=3',),
      'config.mesh.sequence is 3, which does not divide the 4 devices',
    ),
    (('--config.mesh.sequence=2',), '4 patches and 1 other tokens do not divide'),
  ],
)
def test_a_mistake_that_refuses_every_way_is_reported(flags, expected, tiny_recipe):
  x = config.recipe(tiny_recipe, config.from_flags((*SMALL, *flags)))
  with pytest.raises(UserError, match=expected):
    search.search(case(x), None)


@pytest.mark.parametrize(
  'asked',
  [(), ('--config.mesh.tensor=2',), ('--config.mesh.sequence=2', '--config.model.pool=mean')],
)
def test_the_flags_to_paste_undo_what_was_asked(asked, tiny_recipe):
  """Added to the same command, for a mesh without the axis too, they give what was found."""
  x = config.recipe(tiny_recipe, config.from_flags((*SMALL, *asked)))
  ways, _ = search.candidates(case(x))
  for way in (w.experiment for w in ways[::9]):
    pasted = describe.flags(way, x)
    again = config.recipe(tiny_recipe, config.from_flags((*SMALL, *asked, *pasted.split())))
    assert again.mesh == way.mesh and again.optim == way.optim
    assert ('tensor=1' in pasted) == (way.mesh.tensor == 1 and 'tensor' in ''.join(asked))


def test_no_datasheet_no_search(x):
  with pytest.raises(UserError, match='--search: .* cpu:4'):
    search.search(Case(x, topology.parse('cpu:4'), 75, 3), Path('nowhere'))
