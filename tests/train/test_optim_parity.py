"""20 steps of every optimizer and loss agree with PyTorch's, timm's and big_vision's, as committed.

tests/golden/make_optim_fixtures.py has made them; needs neither of these.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.golden.optim_cases import (
  BATCH,
  CASES,
  CLASSES,
  STEPS,
  batches,
  gradients,
  logits,
  params_of,
)
from vit_jax import config, losses
from vit_jax.config import Augment, Mesh
from vit_jax.fields import build
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.train.optim import make_optimizer, trained
from vit_jax.train.schedules import make_schedule
from vit_jax.train.spikes import begin
from vit_jax.train.state import TrainState
from vit_jax.train.step import make_train_step
from vit_jax.train.task import Classification, Distillation, Targets
from vit_jax.trees import flatten, unflatten_variables

GOLDEN = np.load(Path(__file__).parent.parent / 'golden' / 'optim.npz')


class Network:
  """That of `optim_cases.py`, as a model."""

  def apply(self, variables: Any, x: Any, **options: Any) -> Any:
    found = logits(flatten(variables['params']), x, jnp.tanh)
    return SimpleNamespace(logits_BK=found, distill_logits_BK=None), {}


class Given:
  """Targets are in the batch."""

  def drawn(self, batch, key):
    return batch

  def inputs(self, batch, *variables):
    return batch['x'], Targets(batch['soft_label'], batch['teacher'])


class Plain(Given, Classification):
  pass


class Taught(Given, Distillation):
  pass


def run(name: str, accumulate: int = 1, **keys: Any):
  """(loss of each step, the first parameters, the last state) of a case."""
  case = CASES[name]
  optim = build(config.Optim, case.optim | keys, 'optim')
  loss = build(config.Loss, case.loss, 'loss')
  ones = CLASSES, loss, Augment(), (0.5,), (0.5,)
  task = Taught(*ones, None, (0.5,), (0.5,)) if 'distill' in case.loss else Plain(*ones)
  mesh = meshes.make_mesh(Mesh(), jax.devices()[:1])
  tx = make_optimizer(optim, make_schedule(optim, STEPS, BATCH, 100))
  params = jax.tree.map(jnp.asarray, unflatten_variables(params_of(case.size))['params'])
  averaged = {'params': jax.tree.map(jnp.copy, params)} if optim.ema else None
  first = jax.device_get(params)
  state = TrainState(
    jnp.zeros((), jnp.int32), params, tx.init(params), begin(config.Spikes()), averaged
  )
  state = jax.device_put(state, rules.shardings(state, mesh))
  step = make_train_step(
    Network(),
    task,
    tx,
    mesh=mesh,
    state=state,
    accumulate=accumulate,
    ema=optim.ema,
    ema_warmup=optim.ema_warmup,
    trained=trained(optim, params),
  )
  found = []
  for batch in batches():
    batch = {**batch, 'mask': np.ones(BATCH, bool)}
    state, metrics = step(state, meshes.put_batch(batch, mesh))
    found.append(float(metrics['loss']) / BATCH)
  return np.array(found), first, jax.device_get(state)


def run_with_gradients(name: str):
  """Likewise, with those of `gradients` in place of the loss's; of the state the parameters."""
  case = CASES[name]
  optim = build(config.Optim, case.optim, 'optim')
  tx = make_optimizer(optim, make_schedule(optim, STEPS, BATCH, 100))

  def tree(flat):
    return jax.tree.map(jnp.asarray, unflatten_variables(flat)['params'])

  @jax.jit
  def step(params, opt_state, grads, batch, s):
    loss_B = losses.softmax_cross_entropy(
      logits(flatten(params), batch['x'], jnp.tanh), batch['soft_label']
    )
    updates, opt_state = tx.update(grads, opt_state, params, step=s)
    return optax.apply_updates(params, updates), opt_state, jnp.mean(loss_B)

  first = params = tree(params_of(case.size))
  opt_state, found = tx.init(params), []
  for s, (batch, grads) in enumerate(zip(batches(), gradients(case.size), strict=True)):
    params, opt_state, loss = step(params, opt_state, tree(grads), batch, s)
    found.append(float(loss))
  return np.array(found), first, SimpleNamespace(params=params)


def flat(tree: Any) -> np.ndarray:
  leaves = flatten(tree)
  return np.concatenate([np.ravel(leaves[name]) for name in sorted(leaves)])


@pytest.mark.parametrize('name', CASES)
def test_twenty_steps_agree(name):
  loss, first, state = run_with_gradients(name) if name.startswith('bv_') else run(name)
  expected = GOLDEN[f'{name}/params']
  assert np.abs(flat(first) - expected).max() > 0.003  # it did train
  theirs = GOLDEN[f'{name}/loss']
  np.testing.assert_array_less(np.abs(loss - theirs), 1e-6 * np.maximum(1, theirs))
  np.testing.assert_allclose(flat(state.params), expected, rtol=0, atol=2e-5)
  if f'{name}/ema' in GOLDEN:
    average = flat(state.ema['params'])
    # 20 steps of a decay of 0.99996 move it by less than a thousandth of the parameters' way.
    assert 1e-6 < np.abs(average - flat(first)).max() < 1e-3
    np.testing.assert_allclose(average, GOLDEN[f'{name}/ema'], rtol=0, atol=5e-7)


def test_cases_differ():
  """No two of them end alike, so no key is without effect."""
  ends = [GOLDEN[f'{name}/params'] for name in CASES if name not in ('adamw_ema', 'bv_adafactor')]
  for i, one in enumerate(ends):
    for other in ends[:i]:
      assert np.abs(one - other).max() > 1e-5


def test_frozen_parameters_keep_their_bits_and_have_no_state():
  _, first, state = run('adamw_groups', ema=0.9)
  frozen = {'cls', 'embedding/kernel', 'embedding/bias'}
  for tree in (state.params, state.ema['params']):
    for name, leaf in flatten(tree).items():
      assert (leaf == flatten(first)[name]).all() == (name in frozen)
  moments = [name for name in flatten(state.opt_state) if 'embedding' in name or 'cls' in name]
  assert not moments and any('mlp/up' in name for name in flatten(state.opt_state))


def test_accumulation_takes_the_same_steps():
  """Also where the optimizer sees the norms of whole layers."""
  loss, _, state = run('lamb')
  apart, _, other = run('lamb', accumulate=4)
  np.testing.assert_allclose(apart, loss, rtol=0, atol=1e-6)
  np.testing.assert_allclose(flat(other.params), flat(state.params), rtol=0, atol=2e-5)
