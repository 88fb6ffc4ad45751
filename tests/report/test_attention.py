"""Maps of attention from weights, and their picture."""

import numpy as np
import pytest
from PIL import Image

from vit_jax.errors import UserError
from vit_jax.report.attention import attention_maps, draw, lit

GRID = (2, 3)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
  """Positive, and each row sums to one."""
  raw = np.random.default_rng(seed).uniform(0.1, 1, shape)
  return raw / raw.sum(-1, keepdims=True)


def with_skips(layers_LNT: np.ndarray) -> np.ndarray:
  """The rollout of square layers, first to last: row i is what token i took of each input."""
  out = np.eye(layers_LNT.shape[-1])
  for layer_NT in layers_LNT:
    out = (layer_NT + np.eye(len(layer_NT))) / 2 @ out
  return out


@pytest.mark.parametrize('rollout', [False, True])
def test_class_token(rollout):
  blocks = weights(4, 3, 8, 8)  # class token, a register, six patches
  maps, words = attention_maps({'encoder/blocks': blocks}, GRID, True, rollout)
  rows = [(with_skips(layers) if rollout else layers[-1])[0, 2:] for layers in blocks]
  np.testing.assert_allclose(maps, np.reshape(rows, (4, *GRID)))
  assert words == f'class token, {"rollout over depth" if rollout else "last layer"}, mean of heads'


@pytest.mark.parametrize('rollout', [False, True])
def test_mean_over_patches(rollout):
  blocks = weights(4, 3, 7, 7)  # a register, six patches
  maps, words = attention_maps({'encoder/blocks': blocks}, GRID, False, rollout)
  rows = [(with_skips(layers) if rollout else layers[-1])[1:, 1:].mean(0) for layers in blocks]
  np.testing.assert_allclose(maps, np.reshape(rows, (4, *GRID)))
  assert 'mean over patches' in words


@pytest.mark.parametrize('rollout', [False, True])
def test_probe_of_the_head(rollout):
  blocks, probe = weights(4, 3, 7, 7), weights(4, 1, 1, 6, seed=1)
  maps, words = attention_maps({'encoder/blocks': blocks, 'map_head': probe}, GRID, False, rollout)
  rows = [
    seen[0, 0] @ with_skips(layers)[1:, 1:] if rollout else seen[0, 0]
    for layers, seen in zip(blocks, probe, strict=True)
  ]
  np.testing.assert_allclose(maps, np.reshape(rows, (4, *GRID)))
  assert 'probe of the head' in words


@pytest.mark.parametrize('rollout', [False, True])
def test_class_attention(rollout):
  blocks, readers = weights(4, 3, 6, 6), weights(4, 2, 1, 7, seed=1)
  maps, words = attention_maps(
    {'encoder/blocks': blocks, 'class_blocks': readers}, GRID, False, rollout
  )
  rows = []
  for layers, reading in zip(blocks, readers, strict=True):
    whole = np.stack([np.eye(7)] * 2)  # the patches attend to nothing: they stay
    whole[:, 0] = reading[:, 0]
    identity_beside_class = np.eye(7)
    for layer in whole:
      skip = layer.copy()
      skip[0] = (layer[0] + np.eye(7)[0]) / 2
      identity_beside_class = skip @ identity_beside_class
    rows.append(
      identity_beside_class[0, 1:] @ with_skips(layers) if rollout else reading[-1, 0, 1:]
    )
  np.testing.assert_allclose(maps, np.reshape(rows, (4, *GRID)))
  assert words.startswith('class token')


def test_without_attention():
  with pytest.raises(UserError, match='no attention to draw'):
    attention_maps({}, GRID, False, False)


@pytest.mark.parametrize('channels', [1, 3])
def test_the_map_lies_where_the_patches_are(channels):
  map_HW = np.zeros((2, 2))
  map_HW[0, 1] = 0.1  # above, on the right
  bright_HW = lit(np.full((40, 40, channels), 128, np.uint8), map_HW).mean(-1)
  assert bright_HW[5, 35] == bright_HW.max() > bright_HW[5, 5] + 50
  assert bright_HW[5, 5] == bright_HW[35, 5] == bright_HW.min()


def test_a_map_of_zeros_is_dark():
  assert lit(np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2))).max() < 20


@pytest.mark.parametrize('count', [1, 4])
def test_picture(tmp_path, count):
  images = np.random.default_rng(0).integers(0, 256, (count, 16, 24, 3), np.uint8)
  path = tmp_path / 'out.png'
  draw(images, np.ones((count, *GRID)), [f'{i}.png' for i in range(count)], 'words', path)
  width, height = Image.open(path).size
  assert width > height if count == 1 else height > 200


def test_a_picture_that_cannot_be_written(tmp_path):
  with pytest.raises(UserError, match='cannot be written'):
    draw(
      np.zeros((1, 8, 8, 3), np.uint8),
      np.ones((1, 2, 2)),
      ['a'],
      'words',
      tmp_path / 'none' / 'out.png',
    )
