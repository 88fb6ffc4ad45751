"""Nobody waits for imports: what a command does not need, it does not import."""

import json
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

from vit_jax import models
from vit_jax.layouts import export

PROGRAM = """
import json, sys
from vit_jax import commands
code = commands.main(json.loads(sys.argv[1]))
names = {'jax', 'flax', 'orbax', 'tensorflow_datasets', 'cv2', 'scipy', 'matplotlib', 'sklearn'}
print(json.dumps([code, sorted(names & set(sys.modules))]))
"""


def imported(argv: list[str]) -> list[str]:
  """The slow packages that a command has imported at its end."""
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, json.dumps(argv)],
    check=True,
    capture_output=True,
    text=True,
  )
  code, names = json.loads(done.stdout.splitlines()[-1])
  assert code == 0, done.stdout
  return names


@pytest.mark.parametrize(
  'argv', [['--help'], ['models'], ['recipes'], ['report', '--table=models']]
)
def test_a_list_imports_nothing_slow(argv):
  assert imported(argv) == []


def test_images_need_neither_data_sets_nor_checkpoints(tmp_path):
  model, image = tmp_path / 'a.safetensors', tmp_path / 'a.png'
  cv2.imwrite(str(image), np.zeros((32, 32, 3), np.uint8))
  build = models.build('Ti/16', 3, inputs=models.Inputs((32, 32)), width=32, depth=2, heads=2)
  variables = build.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), train=False)
  export.write(model, build, variables, notes={'model': 'Ti/16'})
  found = imported(['predict', f'--weights={model}', f'--input={image}'])
  assert {'jax', 'flax', 'cv2'} <= set(found)
  assert not {'orbax', 'tensorflow_datasets', 'matplotlib', 'sklearn'} & set(found)


def test_the_probe_sees_what_is_imported():
  assert 'jax' in imported(['report', '--table=better_baselines'])
