"""Fine-tuning from a run folder: another size, other classes, the pretrained body."""

from __future__ import annotations

import json

import numpy as np

from tests.fleet import run_to_end
from vit_jax import config
from vit_jax.training.checkpoint import Checkpoints


def params_of(workdir) -> dict:
  checkpoints = Checkpoints(workdir, config.from_run(workdir).checkpoint)
  try:
    return checkpoints.load_variables(checkpoints.steps()[-1])['params']
  finally:
    checkpoints.close()


def test_finetune_from_a_run(finished_run, tiny_recipe, write_images, nursery, tmp_path):
  tuned = tmp_path / 'tuned'
  for split in ('train', 'test'):
    write_images(tmp_path / 'two' / split, {'a': 9, 'b': 9})
  output = run_to_end(nursery, tmp_path, [
      'train', f'--config={tiny_recipe}', f'--workdir={tuned}', '--config.steps=1',
      f'--config.data.dir={tmp_path / "two"}', f'--config.init_from={finished_run}',
      '--config.data.image_size=(24, 16)', '--config.optim.lr=0.0',
      '--config.optim.warmup.steps=0', '--config.optim.ema=0.0'])
  assert '1 resized, 2 fresh' in output
  before, after = params_of(finished_run), params_of(tuned)  # lr 0: what it started from
  np.testing.assert_array_equal(before['encoder']['blocks']['mlp']['up']['kernel'],
                                after['encoder']['blocks']['mlp']['up']['kernel'])
  assert after['head']['kernel'].shape == (32, 2) and not after['head']['kernel'].any()
  assert after['pos_embedding'].shape == (1, 7, 32)
  assert json.loads((tuned / 'summary.json').read_text())['steps'] == 1
