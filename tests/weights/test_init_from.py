"""Training from published weights: what `init_from` takes besides a run folder."""

import fsspec
import numpy as np
import pytest

from tests.weights.made_up import tiny
from vit_jax import commands
from vit_jax.layouts import files, layout, registry
from vit_jax.run.folder import Run
from vit_jax.trees import flatten_variables
from vit_jax.weights import augreg


@pytest.fixture(scope='module')
def ours() -> dict[str, np.ndarray]:
  """Weights for images of 32x32 and 7 classes; the recipe has 16x16 and 3."""
  return tiny('Ti/8', num_classes=7, size=32)[1]


def save(path, word: str, ours: dict[str, np.ndarray]) -> None:
  files.write(path, layout.to_published(registry.LAYOUTS[word], ours))


def train(recipe, tmp_path, source: str) -> int:
  return commands.main(
    [
      'train',
      f'--config={recipe}',
      f'--workdir={tmp_path / "run"}',
      f'--data_dir={tmp_path / "data"}',
      f'--config.init_from={source}',
      '--config.steps=1',
      '--config.optim.lr=0.0',
      '--config.optim.warmup.steps=0',
      '--config.optim.ema=0.0',
    ]
  )


def started_from(tmp_path) -> dict[str, np.ndarray]:
  """The parameters of the run, which trained with a learning rate of 0."""
  with Run(tmp_path / 'run').checkpoints() as checkpoints:
    return flatten_variables({'params': checkpoints.load(1)['params']})


def test_a_file(ours, tiny_recipe, tmp_path, capsys):
  path = tmp_path / 'a.safetensors'
  save(path, 'timm', ours)
  assert train(tiny_recipe, tmp_path, str(path)) == 0
  printed = capsys.readouterr().out
  assert f'start: {path} (timm ViT): {len(ours) - 3} leaves matched, 1 resized, 2 fresh' in printed
  assert '1 resized, 2 fresh; trained with model.exact_gelu=True\n' in printed
  params = started_from(tmp_path)
  assert params['pos_embedding'].shape == (1, 5, 32) and params['head/kernel'].shape == (32, 3)
  for name in set(ours) - {'pos_embedding', 'head/kernel', 'head/bias'}:
    np.testing.assert_array_equal(params[name], ours[name])


def test_augreg(ours, tiny_recipe, tmp_path, capsys, monkeypatch):
  """The recommended row of a made-up index, from a file system in memory."""
  save(tmp_path / 'a.npz', 'google', ours)
  memory = fsspec.filesystem('memory')
  memory.pipe('/made_up/Ti_8-best.npz', (tmp_path / 'a.npz').read_bytes())
  memory.pipe(
    '/made_up/index.csv',
    b'name,ds,final_val,filename,adapt_final_val,adapt_filename\n'
    b'Ti/8,i21k,0.3,Ti_8-other,,\nTi/8,i21k,0.4,Ti_8-best,,\n',
  )
  monkeypatch.setattr(augreg, 'DIRECTORY', 'memory://made_up')
  assert train(tiny_recipe, tmp_path, 'augreg:Ti/8') == 0
  printed = capsys.readouterr().out
  assert 'gelu' not in printed
  assert 'start: memory://made_up/Ti_8-best.npz (Google ViT): ' in printed
  assert 'bytes, sha256 ' in printed and str(tmp_path / 'data' / 'weights') in printed
  np.testing.assert_array_equal(started_from(tmp_path)['cls'], ours['cls'])


@pytest.mark.parametrize(
  'source, printed',
  [
    ('{}/nowhere', 'there is no run folder or file'),
    ('{}/a.npz#sha256=0123', 'has sha256'),
    ('memory://nowhere/a.npz', 'cannot be fetched'),
    ('{}/deep.npz', 'Transformer/encoderblock_2/'),
  ],
)
def test_sources_that_do_not_serve(source, printed, ours, tiny_recipe, tmp_path, capsys):
  save(tmp_path / 'a.npz', 'google', ours)
  save(tmp_path / 'deep.npz', 'google', tiny('Ti/8', depth=3)[1])
  assert train(tiny_recipe, tmp_path, source.format(tmp_path)) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and printed in error
