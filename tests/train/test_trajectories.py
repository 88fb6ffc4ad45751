"""10 training steps of every family give the losses of timm's models, as committed.

tests/golden/make_trajectory_fixtures.py has made them; needs neither torch nor timm.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden.trajectory_cases import BATCH, CASES, CLASSES, batches
from tests.weights.golden_models import FOLDER, GOLDEN
from tests.weights.made_up import fit, read
from vit_jax import config, models
from vit_jax.config import Augment, Mesh
from vit_jax.fields import build
from vit_jax.layouts import files
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.train.optim import make_optimizer
from vit_jax.train.spikes import begin
from vit_jax.train.state import TrainState, as_variables
from vit_jax.train.step import make_train_step
from vit_jax.train.task import Classification, Distillation, Targets

THEIRS = np.load(FOLDER / 'trajectories.npz')


class Given:
  """Images are normalized, and targets are in the batch."""

  def drawn(self, batch, key):
    return batch

  def inputs(self, batch, *variables):
    return batch['image'], Targets(batch['soft_label'], batch['teacher'])


class Plain(Given, Classification):
  pass


class Taught(Given, Distillation):
  pass


@pytest.mark.parametrize('family', CASES)
def test_ten_steps_agree(family, tmp_path):
  golden, case = GOLDEN[family], CASES[family]
  optim = build(config.Optim, case.optim, 'optim')
  loss = build(config.Loss, case.loss, 'loss')
  weights = {
    name.removeprefix('weights/'): leaf
    for name, leaf in files.read(FOLDER / f'timm_{family}.npz').items()
    if name.startswith('weights/')
  }
  files.write(tmp_path / 'weights.safetensors', weights)
  model = models.build(golden.ours, **golden.our_options)
  loaded, line = fit(read(tmp_path / 'weights.safetensors', tmp_path), model, golden.size)
  assert '0 resized, 0 fresh' in line
  variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), loaded)
  params, batch_stats = variables['params'], variables.get('batch_stats')
  tx = make_optimizer(optim, lambda step: optim.lr)
  averaged = as_variables(params, batch_stats) if optim.ema else None
  state = TrainState(
    jnp.zeros((), jnp.int32),
    params,
    tx.init(params),
    begin(config.Spikes()),
    jax.tree.map(jnp.copy, averaged),
    batch_stats,
  )
  ones = CLASSES, loss, Augment(), (0.5,) * 3, (0.5,) * 3
  task = Taught(*ones, None, (0.5,) * 3, (0.5,) * 3) if 'distill' in case.loss else Plain(*ones)
  mesh = meshes.make_mesh(Mesh(), jax.devices()[:1])
  state = jax.device_put(state, rules.shardings(state, mesh))
  step = make_train_step(model, task, tx, mesh=mesh, state=state, ema=optim.ema)
  found, batch = [], {}
  for batch in batches(golden.size):
    full = {**batch, 'mask': np.ones(BATCH, bool)}
    state, metrics = step(state, meshes.put_batch(full, mesh))
    found.append(float(metrics['loss']) / BATCH)
  theirs = THEIRS[f'{family}/loss']
  assert np.ptp(theirs) > 0.1
  np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)
  apply = jax.jit(lambda variables, x: model.apply(variables, x, train=False).logits_BK)
  logits_BK = apply(state.eval_variables, batch['image'])
  np.testing.assert_allclose(logits_BK, THEIRS[f'{family}/output'], rtol=0, atol=1e-4)
