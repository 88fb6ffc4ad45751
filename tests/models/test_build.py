"""Names, options and what a user is told about wrong ones."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax import models
from vit_jax.errors import UserError


def test_size_overrides_and_any_patch():
  model = models.build('Ti/7', 3, width=128, depth=4, heads=4, mlp=384)
  o = model.options
  assert (o.width, o.depth, o.heads, o.mlp, o.patch) == (128, 4, 4, 384, 7)
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
    (dict(widht=64), "model.widht is not a key; did you mean 'width'"),
    (dict(embedding=None), 'model.embedding is not a key'),
    (dict(parent=None), 'model.parent is not a key'),
    (dict(pool='average'), "pool is 'average'; it must be one of: cls, mean, map"),
    (dict(width=64.0), 'width is 64.0; it must be a whole number'),
    (dict(width=True), 'width is True; it must be a whole number'),
    (dict(depth=0), 'depth is 0; it must be at least 1'),
    (dict(qk_norm=1), 'qk_norm is 1; it must be True or False'),
    (dict(dropout=1.5), 'dropout is 1.5; it must be between 0 and 0.99'),
    (dict(dropout='much'), "dropout is 'much'; it must be a number"),
    (dict(unroll='yes'), "unroll is 'yes'; it must be one of: auto, True, False"),
    (dict(unroll=1), 'unroll is 1; it must be one of: auto, True, False'),
    (dict(dtype='bf16'), "dtype is 'bf16'; it must be one of: float32, bfloat16"),
    (dict(patch=8), "model.patch is 8, but the name 'Ti/16' says 16"),
    (dict(width=100, heads=3), 'heads is 3, which does not divide width 100'),
    (dict(width=6, heads=3, posemb='sincos2d'), 'width divisible by 4, not 6'),
  ],
)
def test_wrong_options(options, words):
  with pytest.raises(UserError, match=words):
    models.build('Ti/16', 10, **options)


def test_options_come_from_the_name_or_the_caller():
  options = models.options_of('DeiT3-S/16', {'width': 96})
  assert (options.width, options.heads, options.layerscale, options.patch) == (96, 6, 1e-4, 16)
  model = models.build('DeiT3-S/16', 3, options)
  assert model.options == options and model == models.build('DeiT3-S/16', 3, width=96)
  with pytest.raises(UserError, match=r'config\.model\.widht'):
    models.options_of('Ti/16', {'widht': 1}, 'config.model')


@pytest.mark.parametrize('name', models.MODELS)
def test_every_entry_has_options_that_fit(name):
  entry = models.MODELS[name]
  full = next(iter(entry.names(name)))
  model = models.build(full, 2)
  assert type(model.options) is entry.options and model.inputs == entry.inputs
  assert model.options == models.options_of(full)
  if not models.reads_text(full):
    model.grid(entry.inputs.size)


def test_what_images_the_weights_expect_changes_no_number():
  """But two models that expect other images are not equal."""
  inputs = models.Inputs((8, 16), (0.1,) * 3, (0.2,) * 3, 1.0, class_names=('cat', 'dog'))
  keys = dict(width=32, depth=1, heads=2, mlp=64)
  plain, told = models.build('Ti/8', 2, **keys), models.build('Ti/8', 2, inputs=inputs, **keys)
  assert plain.inputs == models.inputs_of('Ti/8') and told.inputs == inputs
  assert plain != told and len({plain, told, told.clone()}) == 2
  assert 'cat' not in repr(told)
  images_BHWC = jnp.ones((1, 8, 16, 3))
  lowered = [
    jax.jit(lambda model=model: model.init(jax.random.key(0), images_BHWC, train=False)).lower()
    for model in (plain, told)
  ]
  assert lowered[0].as_text() == lowered[1].as_text()


def test_image_that_patches_do_not_tile():
  model = models.build('Ti/8', 10, width=32, depth=1, heads=2, mlp=64)
  with pytest.raises(UserError, match='20x16 pixels do not divide into patches of 8x8; 16x16 wou'):
    model.init(jax.random.key(0), jnp.zeros((1, 20, 16, 3)), train=False)


def test_cudnn_without_a_gpu():
  model = models.build('Ti/8', 10, width=32, depth=1, heads=2, mlp=64, attention='cudnn')
  with pytest.raises(UserError, match="attention='cudnn' needs a GPU.* use attention='auto'"):
    model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
