"""Names, options and what a user is told about wrong ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from vit_jax import models
from vit_jax.errors import UserError


def test_size_overrides_and_any_patch():
  model = models.build('Ti/7', 3, width=128, depth=4, heads=4, mlp=384)
  assert (model.width, model.depth, model.heads, model.mlp) == (128, 4, 4, 384)
  assert model.grid((14, 21)) == (2, 3)


@pytest.mark.parametrize(
  'name, words',
  [
    ('b/16', "did you mean .*'B/16'"),
    ('vit', 'known: '),
    ('B', "'B' lacks a patch.*B/16"),
    ('B/x', 'lacks a patch'),
    ('B/0', 'lacks a patch'),
  ],
)
def test_unknown_names(name, words):
  with pytest.raises(UserError, match=words):
    models.build(name, 10)


@pytest.mark.parametrize(
  'options, words',
  [
    (dict(widht=64), "'widht' is unknown; did you mean 'width'"),
    (dict(embedding=None), "'embedding' is unknown"),
    (dict(parent=None), "'parent' is unknown"),
    (dict(pool='average'), "pool is 'average'; it must be 'cls' or 'mean' or 'map'"),
    (dict(width=64.0), 'width is 64.0; it must be a whole number'),
    (dict(width=True), 'width is True; it must be a whole number'),
    (dict(depth=0), 'depth is 0; it must be at least 1'),
    (dict(qk_norm=1), 'qk_norm is 1; it must be true or false'),
    (dict(dropout=1.5), r'dropout is 1.5; it must lie in \[0, 0.99\]'),
    (dict(dropout='much'), "dropout is 'much'; it must be a number"),
    (dict(unroll='yes'), "unroll is 'yes'; it must be 'auto' or true or false"),
    (dict(dtype='bf16'), "dtype is 'bf16'; it must be 'float32' or 'bfloat16'"),
    (dict(width=100, heads=3), 'heads is 3, which does not divide width 100'),
    (dict(width=6, heads=3, posemb='sincos2d'), 'width divisible by 4, not 6'),
  ],
)
def test_wrong_options(options, words):
  with pytest.raises(UserError, match=words):
    models.build('Ti/16', 10, **options)


def test_image_that_patches_do_not_tile():
  model = models.build('Ti/8', 10, width=32, depth=1, heads=2, mlp=64)
  with pytest.raises(UserError, match='20x16 pixels do not divide into patches of 8x8; 16x16 wou'):
    model.init(jax.random.key(0), jnp.zeros((1, 20, 16, 3)), train=False)


def test_cudnn_without_a_gpu():
  model = models.build('Ti/8', 10, width=32, depth=1, heads=2, mlp=64, attention='cudnn')
  with pytest.raises(UserError, match="attention='cudnn' needs a GPU.* use attention='auto'"):
    model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
