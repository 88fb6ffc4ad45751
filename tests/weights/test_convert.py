"""vit_jax convert: files in, files out, one line; and a sentence for every mistake."""

import pickle

import numpy as np
import pytest

from tests.weights.made_up import fit, random_variables, read, shapes
from vit_jax import commands, layouts, models
from vit_jax.layouts import files, layout, positions, registry
from vit_jax.trees import flatten_variables
from vit_jax.weights import stored as kept


def save(path, name: str, word: str, size: int = 224, **options) -> dict[str, np.ndarray]:
  """Random weights of a model in a file; returns them by our names."""
  keys = {'num_classes': 10} | options
  ours = flatten_variables(random_variables(models.build(name, **keys), size))
  files.write(path, layout.to_published(registry.LAYOUTS[word], ours))
  return ours


def convert(tmp_path, name: str, source: str, target: str, *flags: str) -> int:
  return commands.main(
    [
      'convert',
      f'--model={name}',
      f'--from={tmp_path / source}',
      f'--to={tmp_path / target}',
      f'--data_dir={tmp_path}',
      *flags,
    ]
  )


def stored(path) -> dict[str, np.ndarray]:
  return files.read(path)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
  return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_round_trip_through_every_family(tmp_path, capsys):
  ours = save(tmp_path / 'a.npz', 'Ti/32', 'google')
  assert convert(tmp_path, 'Ti/32', 'a.npz', 'b.safetensors') == 0
  line = capsys.readouterr().out
  assert line.startswith(f'{tmp_path / "a.npz"} (Google ViT): {len(ours)} leaves matched, 0 res')
  assert f'; written to {tmp_path / "b.safetensors"} (timm ViT)' in line and line.count('\n') == 1
  assert 'blocks.11.attn.qkv.weight' in stored(tmp_path / 'b.safetensors')
  assert convert(tmp_path, 'Ti/32', 'b.safetensors', 'c.safetensors', '--layout=hf') == 0
  assert convert(tmp_path, 'Ti/32', 'c.safetensors', 'd.npz', '--layout=big_vision-scanned') == 0
  assert convert(tmp_path, 'Ti/32', 'd.npz', 'e.npz') == 0
  assert same(stored(tmp_path / 'a.npz'), stored(tmp_path / 'e.npz'))


def test_weights_of_another_image_size_keep_theirs(tmp_path, capsys):
  save(tmp_path / 'a.npz', 'Ti/32', 'google', size=384)
  assert convert(tmp_path, 'Ti/32', 'a.npz', 'b.safetensors') == 0
  assert '0 resized' in capsys.readouterr().out
  assert stored(tmp_path / 'b.safetensors')['pos_embed'].shape == (1, 145, 192)


@pytest.mark.parametrize('options, side', [({}, 240), (dict(pool='mean', posemb='sincos2d'), 210)])
def test_weights_whose_patches_do_not_tile_the_usual_image(options, side, tmp_path):
  save(tmp_path / 'a.npz', 'mu/30', 'big_vision', size=240, **options)
  assert kept.build(read(tmp_path / 'a.npz', tmp_path), 'mu/30').inputs.size == (side, side)
  assert convert(tmp_path, 'mu/30', 'a.npz', 'b.npz') == 0


@pytest.mark.parametrize(
  'name, side', [('R+Ti/16', 384), ('R26+S/32', 384), ('CaiT-XXS24', 448), ('DINOv2-S/14', 224)]
)
def test_the_image_size_of_weights_follows_from_their_positions(name, side, tmp_path):
  size = dict(depth=1, width=32, heads=2, mlp=64)
  ours = flatten_variables(shapes(models.build(name, 10, **size), side))
  table = {'pos_embed': np.zeros(ours['pos_embedding'].shape, np.float32)}
  found = kept.Stored('a file', table, registry.LAYOUTS['timm'])
  assert kept.build(found, name).inputs.size == (side, side)


def test_a_representation_layer_comes_along(tmp_path, capsys):
  ours = save(tmp_path / 'a.npz', 'Ti/32', 'google', representation=True)
  assert convert(tmp_path, 'Ti/32', 'a.npz', 'b.npz', '--layout=google-linen') == 0
  assert f'{len(ours)} leaves matched, 0 resized, 0 fresh' in capsys.readouterr().out
  np.testing.assert_array_equal(
    stored(tmp_path / 'b.npz')['pre_logits/kernel'], ours['pre_logits/kernel']
  )


def test_features_without_a_head_are_what_it_sees(tmp_path):
  save(tmp_path / 'a.npz', 'Ti/32', 'google', representation=True)
  found = read(tmp_path / 'a.npz', tmp_path)
  assert kept.build(found, 'Ti/32', 0).options.representation
  assert not kept.build(found, 'Ti/32', 3).options.representation


@pytest.mark.parametrize(
  'options, target, layout',
  [
    (dict(pool='mean', posemb='sincos2d'), 'b.npz', 'big_vision ViT'),
    (dict(pool='mean', posemb='sincos2d'), 'b.safetensors', 'big_vision ViT'),
    (dict(pool='map'), 'b.npz', 'big_vision ViT'),
    (dict(pool='map'), 'b.safetensors', 'timm ViT'),
    (dict(pool='mean'), 'b.npz', 'Google ViT'),
  ],
)
def test_pool_and_positions_follow_from_the_names(options, target, layout, tmp_path, capsys):
  ours = save(tmp_path / 'a.npz', 'Ti/32', 'big_vision', **options)
  model = kept.build(read(tmp_path / 'a.npz', tmp_path), 'Ti/32')
  assert {option: getattr(model.options, option) for option in options} == options
  assert convert(tmp_path, 'Ti/32', 'a.npz', target) == 0
  printed = capsys.readouterr().out
  assert f'{len(ours)} leaves matched, 0 resized, 0 fresh' in printed and f'({layout})' in printed
  variables, _ = fit(read(tmp_path / target, tmp_path), model, 224)
  assert same(flatten_variables(variables), ours)


def test_another_number_of_classes(tmp_path, capsys):
  save(tmp_path / 'a.npz', 'Ti/32', 'google')
  assert convert(tmp_path, 'Ti/32', 'a.npz', 'b.npz', '--num_classes=3') == 0
  assert '2 fresh' in capsys.readouterr().out
  assert stored(tmp_path / 'b.npz')['head/kernel'].shape == (192, 3)
  assert convert(tmp_path, 'Ti/32', 'a.npz', 'c.npz', '--num_classes=0') == 0
  assert 'head/kernel' not in stored(tmp_path / 'c.npz')


def test_hugging_face_registers_have_a_class_position(tmp_path):
  """Hugging Face's table has a slot for the class token, timm's has none; the sum is the same."""
  ours = save(tmp_path / 'a.safetensors', 'DINOv2-S/14-reg4', 'timm', size=224, num_classes=0)
  assert convert(tmp_path, 'DINOv2-S/14-reg4', 'a.safetensors', 'b.safetensors', '--layout=hf') == 0
  theirs = stored(tmp_path / 'b.safetensors')
  table_1ND, cls_11D = theirs['embeddings.position_embeddings'], theirs['embeddings.cls_token']
  assert table_1ND.shape == (1, 257, 384)
  np.testing.assert_array_equal(cls_11D + table_1ND[:, :1], ours['cls'])
  assert convert(tmp_path, 'DINOv2-S/14-reg4', 'b.safetensors', 'c.safetensors') == 0
  assert same(stored(tmp_path / 'a.safetensors'), stored(tmp_path / 'c.safetensors'))


def test_positions_of_another_home_are_resized_as_it_does(tmp_path):
  """Google's zoom and timm's bicubic differ; the layout of a file says which one it needs."""
  model = models.build('Ti/32', 10)
  tables = []
  for word, name in (('google', 'a.npz'), ('timm', 'a.safetensors'), ('hf', 'b.safetensors')):
    save(tmp_path / name, 'Ti/32', word)
    variables, line = fit(read(tmp_path / name, tmp_path), model, 320)
    assert '1 resized, 0 fresh' in line
    tables.append(variables['params']['pos_embedding'])
  google, timm, hf = tables
  assert np.abs(google - timm).max() > 1e-3 and np.abs(timm - hf).max() > 1e-3
  np.testing.assert_array_equal(google[:, 0], timm[:, 0])


@pytest.mark.parametrize(
  'name, method', [('DINOv2-S/14', 'bicubic'), ('DINOv2-S/14-reg4', 'bicubic_antialias')]
)
def test_hugging_face_antialiases_positions_of_dinov2_with_registers(name, method, tmp_path):
  model = models.build(name, 0, width=32, depth=1, heads=2, mlp=64, posemb_class=True)
  ours = flatten_variables(random_variables(model, 112))
  files.write(tmp_path / 'a.safetensors', layout.to_published(registry.LAYOUTS['hf-dinov2'], ours))
  variables, _ = fit(read(tmp_path / 'a.safetensors', tmp_path), model, 56)
  np.testing.assert_array_equal(
    variables['params']['pos_embedding'],
    positions.resize(ours['pos_embedding'], (8, 8), (4, 4), method),
  )


@pytest.mark.parametrize(
  'word, first, second',
  [('timm-hybrid', 'a.safetensors', 'b.npz'), ('google', 'a.npz', 'b.safetensors')],
)
def test_what_the_homes_do_otherwise_comes_along(word, first, second, tmp_path):
  """Google's ViT has the tanh form of GELU and timm's the exact one: names do not tell."""
  save(tmp_path / first, 'R26+S/32', word, num_classes=0)
  assert convert(tmp_path, 'R26+S/32', first, second) == 0
  timms = word == 'timm-hybrid'
  for name in (first, second):
    model = kept.build(read(tmp_path / name, tmp_path), 'R26+S/32')
    assert layouts.traits(model.options) == {
      'exact_gelu': timms,
      'weight_epsilon': 'variance' if timms else 'std',
    }


def test_names_that_google_lacks_are_written_as_timm_has_them(tmp_path, capsys):
  ours = save(tmp_path / 'a.safetensors', 'DeiT-Ti/16-distilled', 'timm')
  assert convert(tmp_path, 'DeiT-Ti/16-distilled', 'a.safetensors', 'b.npz') == 0
  assert f'{len(ours)} leaves matched' in capsys.readouterr().out
  assert same(stored(tmp_path / 'a.safetensors'), stored(tmp_path / 'b.npz'))


def nan(path):
  files.write(path, files.read(path) | {'head/bias': np.full(10, np.nan, np.float32)})


def positions_of(*shape):
  name = 'Transformer/posembed_input/pos_embedding'
  return lambda path: files.write(path, files.read(path) | {name: np.zeros(shape, np.float32)})


def integers(path):
  files.write(path, files.read(path) | {'head/bias': np.arange(10)})


@pytest.mark.parametrize(
  'name, spoil, sentence',
  [
    ('Ti/32', lambda path: path.write_bytes(path.read_bytes()[:99_999]), 'is no whole .npz'),
    ('Ti/32', nan, 'a number that is not finite in head/bias'),
    ('Ti/32', integers, 'holds int64 in head/bias'),
    ('Ti/32', positions_of(1, 7, 7, 192), 'is (1, 7, 7, 192), but should have 3 axes'),
    ('Ti/32', positions_of(1, 0, 192), 'pos_embedding is (1, 0, 192), not (1, 50, 192)'),
    ('Ti/32', lambda path: path.unlink(), 'there is no run folder or file'),
    ('Ti/32', lambda path: path.write_bytes(pickle.dumps({'a': 1})), 'is no whole .npz'),
    ('Ti/32', lambda path: np.savez_compressed(path, np.zeros(70 << 20, np.uint8)), 'unpack to'),
    ('S/32', lambda path: None, 'cls is (1, 1, 192), not (1, 1, 384)'),
    ('Ti/16', lambda path: None, 'embedding/kernel is (32, 32, 3, 192), not (16, 16, 3, 192)'),
    ('ResNet-18', lambda path: None, 'stage1/unit1/norm1/scale (64,) is missing'),
    ('Ti/32s', lambda path: None, "'Ti/32s'"),
  ],
)
def test_bad_weights_are_answered_in_a_sentence(name, spoil, sentence, tmp_path, capsys):
  save(tmp_path / 'a.npz', 'Ti/32', 'google')
  spoil(tmp_path / 'a.npz')
  assert convert(tmp_path, name, 'a.npz', 'b.npz') == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and sentence in error
  assert not (tmp_path / 'b.npz').exists()


@pytest.mark.parametrize(
  'target, flags, sentence',
  [
    ('b.pt', (), 'b.pt is a pickle'),
    ('b.h5', (), 'must end in .npz or .safetensors'),
    ('no/b.npz', (), "no/b.npz' must be a file in a folder that exists"),
    ('b.npz', ('--layout=torch',), '--layout=torch is unknown'),
    ('b.npz', ('--num_classes=-1',), 'num_classes'),
  ],
)
def test_targets_that_cannot_be(target, flags, sentence, tmp_path, capsys):
  save(tmp_path / 'a.npz', 'Ti/32', 'google')
  assert convert(tmp_path, 'Ti/32', 'a.npz', target, *flags) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and sentence in error
