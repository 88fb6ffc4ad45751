"""Small members of every family give the numbers of timm, as committed; needs no torch."""

import numpy as np
import pytest

from tests.weights.golden_models import FOLDER, GOLDEN
from tests.weights.made_up import fit, read
from vit_jax import models
from vit_jax.layouts import files


@pytest.mark.parametrize('family', GOLDEN)
def test_golden_fixture(family, tmp_path):
  golden = GOLDEN[family]
  arrays = files.read(FOLDER / f'timm_{family}.npz')
  weights = {
    name.removeprefix('weights/'): leaf
    for name, leaf in arrays.items()
    if name.startswith('weights/')
  }
  files.write(tmp_path / 'weights.safetensors', weights)
  model = models.build(golden.ours, **golden.our_options)
  found = read(tmp_path / 'weights.safetensors', tmp_path)
  variables, line = fit(found, model, golden.size)
  assert '0 resized, 0 fresh' in line
  output = model.apply(variables, arrays['input'].astype(np.float32), train=False)
  got, expected = np.asarray(getattr(output, golden.field)), arrays['output']
  assert got.shape == expected.shape and np.abs(expected[0] - expected[1]).max() > 0.01
  np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)


def test_no_fixture_is_forgotten():
  assert {path.stem for path in FOLDER.glob('timm_*.npz')} == {f'timm_{name}' for name in GOLDEN}
  assert all(path.stat().st_size < 700_000 for path in FOLDER.glob('timm_*.npz'))
