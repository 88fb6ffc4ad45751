"""What tests of `vit_jax predict` share: made-up weights, and the command itself."""

from pathlib import Path

import numpy as np

from vit_jax import commands
from vit_jax.layouts import files, layout, registry
from vit_jax.trees import flatten_variables

NUM_CLASSES = 5
SMALL = dict(width=32, depth=2, heads=2, mlp=64)
HALF = (0.5, 0.5, 0.5)


def write_weights(path: Path, variables, **changes: np.ndarray) -> Path:
  ours = flatten_variables(variables) | changes
  files.write(path, layout.to_published(registry.LAYOUTS['timm'], ours))
  return path


def predict(source: Path, place, tmp_path: Path, *flags: str) -> dict[str, np.ndarray]:
  out = tmp_path / 'out.npz'
  argv = ['predict', f'--weights={source}', f'--output={out}', '--input', str(place), *flags]
  assert commands.main(argv) == 0
  with np.load(out, allow_pickle=False) as stored:
    return dict(stored)


def save_array(tmp_path: Path, array: np.ndarray) -> Path:
  np.save(tmp_path / 'images.npy', array)
  return tmp_path / 'images.npy'
