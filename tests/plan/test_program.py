"""What is planned is what is trained; cost as a pod grows; out of memory as a result."""

import dataclasses
import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import pytest
from plain_step import PLAIN

from vit_jax import commands, config
from vit_jax.parallel import chips, topology
from vit_jax.plan import compilers, describe, hlo, planner, program
from vit_jax.plan.program import Case
from vit_jax.train.trainer import Trainer

MESH = ('--config.mesh.replica=2', '--config.mesh.fsdp=2', '--config.mesh.tensor=2')
# As libtpu 0.0.52 refused it, and in the form of older ones.
REFUSED = (
  'RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total '
  'memory required for HLO temporaries (20.29G) exceeds available HBM (15.75G). HLO '
  'module: jit_f.'
)
REFUSED_BEFORE = (
  'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in '
  'memory space hbm. Used 34.50G of 15.75G hbm. Exceeds hbm capacity by 18.75G.'
)


def experiment(recipe: Path, *overrides: str) -> config.Experiment:
  return config.recipe(recipe, config.from_flags(overrides))


def case(x: config.Experiment, devices: int = 8) -> Case:
  return Case(x, topology.parse(f'cpu:{devices}'), 75, 3)


def planned(x: config.Experiment, devices: int = 8) -> program.Program:
  return program.lower(case(x, devices))


class Kept(NamedTuple):
  experiment: config.Experiment
  step: program.Program
  result: program.Compiled
  cache: Path


@pytest.fixture(scope='module')
def kept(tiny_recipe, tmp_path_factory) -> Kept:
  """The tiny recipe on a (2, 2, 2, 1) mesh, planned, compiled and kept."""
  x, cache = experiment(tiny_recipe, *MESH), tmp_path_factory.mktemp('plans')
  step = planned(x)
  return Kept(x, step, program.compiled(step, cache), cache)


class Lowered(Exception):
  """Ends a training run where it has lowered its step."""


def trained(argv: list[str], monkeypatch) -> Any:
  """What `vit_jax train` lowers."""
  make = Trainer.train_step.func

  def watched(self):
    def lower(*args):
      raise Lowered(make(self).lower(*args))

    return SimpleNamespace(lower=lower)

  with monkeypatch.context() as patch, pytest.raises(Lowered) as stopped:
    patch.setattr(Trainer, 'train_step', property(watched))
    commands.main(argv)
  return stopped.value.args[0]


def test_the_planned_program_is_the_trained_one(kept, tiny_recipe, tmp_path, monkeypatch):
  """Training is stopped where it lowers its step, with real arrays: text and HLO are the plan's."""
  argv = ['train', f'--config={tiny_recipe}', f'--workdir={tmp_path}', *MESH]
  real = trained(argv, monkeypatch)
  assert kept.step.text == real.as_text()
  assert kept.result.hlo == hlo.strip(real.compile().as_text())


def test_so_it_is_with_accumulation(kept, tiny_recipe, tmp_path, monkeypatch):
  flags = (*MESH, '--config.optim.accumulate=2')
  argv = ['train', f'--config={tiny_recipe}', f'--workdir={tmp_path}', *flags]
  text = planned(experiment(tiny_recipe, *flags)).text
  assert text != kept.step.text
  assert text == trained(argv, monkeypatch).as_text()


def test_cost_as_the_pod_grows(tiny_recipe):
  """2 -> 8 devices at a fixed batch each: the short version of the slow test on TPUs."""
  sizes = []
  for devices in (2, 8):
    x = experiment(
      tiny_recipe,
      *PLAIN,
      f'--config.batch_size={512 * devices}',  # activations outweigh a copy of the parameters
      '--config.mesh.replica=1',
      '--config.mesh.fsdp=-1',
      '--config.model.width=256',
      '--config.model.mlp=512',
    )
    plan = planner.make_plan(case(x, devices), None)
    assert plan.work is not None and plan.work.unknown_loops == 0
    sizes.append(
      (
        plan.work.flops,
        plan.compiled.memory['temporaries'],
        devices * (plan.bytes['parameters'] + plan.bytes['optimizer']),
      )
    )
  for figures in zip(*sizes, strict=True):
    assert max(figures) <= 1.05 * min(figures), sizes


def test_a_plan_is_described(kept):
  plan = planner.make_plan(case(kept.experiment), kept.cache)
  assert plan.compiled == kept.result and plan.work is not None
  # Six FLOP for each multiply-accumulate and image, which counts a gradient of the pixels.
  assert plan.work.flops == pytest.approx(plan.step_flops / plan.devices, rel=0.15)
  assert {each.axes for each in plan.work.collectives} >= {'fsdp', 'tensor'}
  assert plan.fits is None and not plan.seconds  # a CPU has no datasheet
  assert sum(plan.bytes.values()) == pytest.approx(plan.compiled.bytes)
  assert plan.bytes['optimizer'] == pytest.approx(2 * plan.bytes['parameters'], rel=0.01)
  shown = describe.plan_text(plan)
  assert 'together' in shown and 'all-gather' in shown and 'bound' not in shown


def test_a_plan_is_kept_by_its_program(kept, monkeypatch):
  step = planned(kept.experiment)
  assert step.key == kept.step.key
  monkeypatch.setattr(step.lowered, 'compile', None)  # it is not compiled again
  assert program.compiled(step, kept.cache) == kept.result
  other = planned(dataclasses.replace(kept.experiment, batch_size=32))
  assert other.key != step.key
  key = step.key
  with monkeypatch.context() as patch:
    patch.setattr(program, 'compiler_options', lambda mesh: {'xla_another': True})
    assert step.key != key
  monkeypatch.setattr(compilers, 'versions', lambda platform: {'jax': 'another'})
  assert step.key not in {other.key, *(file.name.split('.')[0] for file in kept.cache.iterdir())}


def test_the_key_does_not_depend_on_the_process(kept):
  """Several GPUs have cuDNN's attention, which StableHLO names by an address in memory."""

  def key(address: str, rule: str = '[i, j]') -> str:
    call = '%1:2 = stablehlo.custom_call @CustomSPMDPartitioning(%0, %arg0) {api_version = 2, '
    call += f'backend_config = "{address}", sdy.sharding_rule = #sdy.op_sharding_rule<({rule})>}}'
    lowered = SimpleNamespace(as_text=lambda: f'{call}\n{call}')
    return dataclasses.replace(kept.step, lowered=lowered).key

  assert key('139923530994192') == key('140181948194640') != key('139923530994192', '[j, i]')


def test_out_of_memory_is_a_result(kept, tmp_path, monkeypatch):
  place = topology.parse('cpu:8')
  place = dataclasses.replace(place, chip=place.chip._replace(memory=chips.CHIPS['v5e'].memory))

  def refuse(self, *args, **kwargs):
    raise jax.errors.JaxRuntimeError(REFUSED)

  monkeypatch.setattr(type(kept.step.lowered), 'compile', refuse)
  plan = planner.make_plan(Case(kept.experiment, place, 75, 3), tmp_path)
  assert plan.fits is False and plan.work is None and plan.bytes['parameters'] > 0
  assert 'does not fit: 20.29 GiB, 4.54 GiB too much' in describe.plan_text(plan)
  [file] = tmp_path.iterdir()  # and is remembered
  assert json.loads(gzip.decompress(file.read_bytes()))['out_of_memory'] == REFUSED

  def fail(self, *args, **kwargs):
    raise jax.errors.JaxRuntimeError('INTERNAL: a bug')

  monkeypatch.setattr(type(kept.step.lowered), 'compile', fail)
  with pytest.raises(jax.errors.JaxRuntimeError, match='a bug'):
    program.compiled(kept.step, None)


@pytest.mark.parametrize('words, gib', [(REFUSED, 20.29), (REFUSED_BEFORE, 34.5), ('what?', 0)])
def test_how_much_was_too_much(words, gib):
  refused = program.Compiled('', {}, words, 0.0, {})
  assert refused.bytes == pytest.approx(gib * chips.GIB)


def test_jax_takes_a_share_of_a_gpu(monkeypatch):
  """No compiler refuses there: memory is compared with what JAX takes."""
  place = topology.parse('h100:8')
  monkeypatch.delenv('XLA_PYTHON_CLIENT_MEM_FRACTION', raising=False)
  assert program.available(place) == 0.75 * 84_942_979_072
  monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9')
  assert program.available(place) == 0.9 * 84_942_979_072
  assert program.available(topology.parse('v5e:2x4')) == chips.CHIPS['v5e'].memory
