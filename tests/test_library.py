"""`import vit_jax` as a library: README's own lines, on a small run."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vit_jax
from vit_jax.layouts import files

README = Path(__file__).parent.parent / 'README.md'


def test_the_lines_of_the_readme(readme_folder):
  (lines,) = re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL)
  found: dict = {}
  exec(compile(lines, 'README.md', 'exec'), found)
  assert found['features'].shape == (2, 32)
  trainer, state = found['trainer'], found['state']
  assert int(state.step) == trainer.steps == 12 and np.isfinite(float(found['metrics']['loss']))
  assert trainer.experiment.batch_size == 64
  written = files.read(readme_folder / 'model.safetensors')
  assert written['patch_embed.proj.weight'].shape == (32, 3, 8, 8)  # timm's name and order of axes


def test_a_name_imports_its_room_only():
  code = (
    'import sys, vit_jax\n'
    'vit_jax.recipe\n'
    'slow = {"jax", "flax", "tensorflow_datasets", "cv2", "matplotlib"} & set(sys.modules)\n'
    'assert not slow, slow\n'
    'assert set(vit_jax.__all__) <= set(dir(vit_jax))'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_an_unknown_name_is_an_attribute_error():
  with pytest.raises(AttributeError, match='bulid'):
    vit_jax.bulid  # noqa: B018
