"""Features of many images, and attention, as `vit_jax predict` gives them."""

import numpy as np
import pytest
from PIL import Image

from tests.evaluate.predicting import HALF, SMALL, predict
from tests.weights.made_up import random_variables
from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.evaluate.features import answers_fn, attention_fn
from vit_jax.report.attention import attention_maps


def test_features_of_any_number_of_images(model, variables):
  pixels_NHWC = np.random.default_rng(2).integers(0, 256, (9, 32, 32, 3), np.uint8)
  answers = answers_fn(model, variables, HALF, HALF, batch_size=3)
  images_NHWC = np.float32(pixels_NHWC / 255 * 2 - 1)
  expected_ND = np.asarray(model.apply(variables, images_NHWC, train=False).features_BD)
  for count in (0, 1, 8, 9):
    found_ND = answers(pixels_NHWC[:count]).features_ND
    assert found_ND.shape == (count, 32)
    np.testing.assert_allclose(found_ND, expected_ND[:count], atol=1e-5)
  np.testing.assert_allclose(answers(images_NHWC).features_ND, expected_ND, atol=1e-5)


@pytest.mark.parametrize(
  'name, options, stacks',
  [
    ('Ti/8', {}, {'encoder/blocks': (3, 2, 17, 17)}),
    (
      'Ti/8',
      dict(pool='map', registers=2),
      {'encoder/blocks': (3, 2, 18, 18), 'map_head': (3, 1, 1, 16)},
    ),
    (
      'CaiT-XXS24',
      dict(patch=8),
      {'encoder/blocks': (3, 2, 16, 16), 'class_blocks': (3, 2, 1, 17)},
    ),
  ],
)
def test_attention_of_every_layer(name, options, stacks):
  model = models.build(name, 0, **SMALL, **options)
  images_NHWC = np.random.default_rng(3).normal(size=(3, 32, 32, 3)).astype(np.float32)
  found = attention_fn(model, random_variables(model, 32), HALF, HALF)(images_NHWC)
  assert {stack: array.shape for stack, array in found.items()} == stacks
  for weights_BLNT in found.values():
    np.testing.assert_allclose(weights_BLNT.sum(-1), 1, atol=1e-5)
    assert weights_BLNT.min() >= 0 and weights_BLNT.std() > 1e-3


def test_attention_is_drawn(run, tiny_folder, tmp_path, capsys):
  picture = tmp_path / 'attention.png'
  predict(run, tiny_folder / 'test', tmp_path, f'--attention={picture}', '--rollout')
  assert (
    'class token, rollout over depth, mean of heads; 12 of 21 images' in capsys.readouterr().out
  )
  assert min(Image.open(picture).size) > 300


def test_a_model_without_attention():
  model = models.build('ResNet-18', 0, width=8, stages=(1,))
  stacks = attention_fn(model, random_variables(model, 32), HALF, HALF)(
    np.zeros((1, 32, 32, 3), np.float32)
  )
  with pytest.raises(UserError, match='no attention to draw'):
    attention_maps(stacks, model.grid((32, 32)), False, False)
