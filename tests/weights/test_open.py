"""`weights.open` and `weights.start_from`: every kind of source, and what is said of it."""

import http.server
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.weights.made_up import TINY, random_variables, tiny
from tests.weights.made_up_run import CLASSES, MEAN, STD, write_run
from vit_jax import layouts, models, weights
from vit_jax.data import imagenet
from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.layouts import files, layout, registry
from vit_jax.run import Run
from vit_jax.trees import flatten_variables
from vit_jax.weights import huggingface

SIZE = (16, 24)


def made_up(seed: int = 0, num_classes: int = 3, size=SIZE, **options):
  return random_variables(models.build('Ti/8', num_classes, **TINY | options), size, seed)


def same(a, b) -> bool:
  a, b = flatten_variables(a), flatten_variables(b)
  return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Path:
  """Checkpoints of steps 2, the best, and 5."""
  folder = tmp_path_factory.mktemp('runs') / 'made_up'
  steps = {step: (made_up(step, pool='mean'), top1) for step, top1 in ((2, 0.9), (5, 0.4))}
  write_run(folder, steps, dropout=0.1, pool='mean')
  return folder


@pytest.fixture(autouse=True)
def no_downloads(tmp_path, monkeypatch):
  monkeypatch.setenv('VIT_JAX_DATA_DIR', str(tmp_path / 'data'))


@pytest.mark.parametrize(
  'end, checkpoint, step',
  [('', 'last', 5), ('@best', 'last', 2), ('@2', 'last', 2), ('', 'best', 2), ('@5', '5', 5)],
)
def test_a_run(run, end, checkpoint, step):
  opened = weights.open(f'{run}{end}', checkpoint=checkpoint)
  assert same(opened.variables, made_up(step, pool='mean'))
  assert f'{run} at step {step}: ' in opened.line and '0 resized, 0 fresh' in opened.line
  assert opened.name == 'Ti/8' and opened.class_names == CLASSES
  assert opened.model.options == models.options_of('Ti/8', TINY | dict(dropout=0.1, pool='mean'))
  assert (opened.mean, opened.std) == (MEAN, STD)
  assert opened.view == View(SIZE, 3, 'central', shorter=20)
  assert weights.open(opened.source).digest() == opened.digest()
  assert weights.open(f'{run}@{7 - step}').digest() != opened.digest()


def test_an_at_sign_in_a_name(run, tmp_path):
  for name in ('a@b', 'run@best'):
    shutil.copytree(run, tmp_path / name)
    assert ' at step 5' in weights.open(tmp_path / name).line
    assert ' at step 2' in weights.open(f'{tmp_path / name}@best').line
  path = tmp_path / 'weights@best.npz'
  layouts.write(path, *weights.load(run), notes={'model': 'Ti/8'})
  assert same(weights.load(path)[1], made_up(5, pool='mean'))


@pytest.mark.parametrize(
  'source, keys, sentence',
  [
    ('{}@7', {}, "'last', 'best' or one of the steps 2, 5"),
    ('{}@best', dict(checkpoint='5'), 'names another checkpoint'),
    ('{}/nowhere', {}, 'there is no run folder or file'),
    ('{}/checkpoints', {}, 'is not a run folder'),
    ('{}', dict(model='B/16'), 'holds Ti/8; leave --model out'),
    ('{}', dict(num_classes=4), 'has a head of 3 classes'),
    ('{}', dict(options={'widht': 3}), "did you mean 'width'"),
    ('{}', dict(options={'depth': 3}), 'does not fit the model'),
    ('{}', dict(options={'representation': True}), 'it has no .*pre_logits/'),
  ],
)
def test_what_does_not_open(run, source, keys, sentence):
  with pytest.raises(UserError, match=sentence):
    weights.open(source.format(run), **keys)


def test_options_head_and_image_size(run):
  opened = weights.open(run, options={'exact_gelu': 'True'}, num_classes=0, image_size=(24, 40))
  assert opened.model.options.exact_gelu and opened.class_names == ()
  assert opened.view.image_size == (24, 40) and opened.grid == (3, 5)
  assert opened.variables['params']['pos_embedding'].shape == (1, 15, 32)
  assert 'head' not in opened.variables['params'] and '1 resized' in opened.line


def test_a_plain_file_and_what_is_assumed(tmp_path):
  ours = tiny(num_classes=1000)[1]
  arrays = layout.to_published(registry.LAYOUTS['timm'], ours)
  files.write(tmp_path / 'a.safetensors', arrays)
  with pytest.raises(UserError, match='--model is missing'):
    weights.open(tmp_path / 'a.safetensors')
  opened = weights.open(tmp_path / 'a.safetensors', model='Ti/8', options=TINY)
  assert opened.model.options.exact_gelu and opened.model.inputs.size == (16, 16)
  assert opened.class_names == imagenet.names()
  assert opened.view == View.published((16, 16), 3, 0.875)
  assert 'assumed: mean (0.5, 0.5, 0.5), ' in opened.line and 'ImageNet' in opened.line
  with pytest.raises(UserError, match='is no run folder'):
    weights.open(tmp_path / 'a.safetensors', model='Ti/8', options=TINY, checkpoint='best')
  few = weights.open(tmp_path / 'a.safetensors', model='Ti/8', options=TINY, num_classes=0)
  assert 'ImageNet' not in few.line and few.class_names == ()


def test_an_address(run, tmp_path):
  layouts.write(tmp_path / 'a.npz', *weights.load(run), notes={'model': 'Ti/8'})
  opened = weights.open(f'file://{tmp_path / "a.npz"}')
  assert same(opened.variables, made_up(5, pool='mean')) and opened.class_names == CLASSES
  assert len(list((tmp_path / 'data' / 'weights').iterdir())) == 1


def test_convert_a_run(run, tmp_path):
  line = weights.convert(f'{run}@best', tmp_path / 'a.safetensors')
  assert ' at step 2: ' in line and "act_layer='gelu_tanh'" in line
  opened, expected = weights.open(tmp_path / 'a.safetensors'), weights.open(f'{run}@best')
  assert opened.model == expected.model and same(opened.variables, expected.variables)
  line = Run(run).export(tmp_path / 'c.safetensors', layout='timm', checkpoint='best')
  assert (tmp_path / 'c.safetensors').read_bytes() == (tmp_path / 'a.safetensors').read_bytes()
  assert f'{run} at step 2: written to' in line
  weights.convert(run, tmp_path / 'b.npz', num_classes=7)
  opened = weights.open(tmp_path / 'b.npz')
  assert opened.model.num_classes == 7 and opened.class_names == ()
  assert not opened.variables['params']['head']['kernel'].any()


# Folders of Hugging Face.


def hf_config(**changes) -> dict:
  names = {str(k): f'LABEL_{k}' for k in range(3)}
  config = dict(
    model_type='vit',
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    hidden_act='gelu',
    image_size=16,
    patch_size=8,
    id2label=names,
  )
  return config | changes


def hf_folder(path: Path, word: str, model, size=(16, 16), preprocessor=None, **config) -> dict:
  """A folder of random weights; returns their variables."""
  path.mkdir(parents=True, exist_ok=True)
  variables = random_variables(model, size)
  arrays = layout.to_published(registry.LAYOUTS[word], flatten_variables(variables))
  safetensors.numpy.save_file(arrays, path / 'model.safetensors', {'format': 'pt'})
  (path / 'config.json').write_text(json.dumps(hf_config(**config)))
  if preprocessor:
    (path / 'preprocessor_config.json').write_text(json.dumps(preprocessor))
  return variables


def test_a_vit_of_transformers(tmp_path):
  options = TINY | dict(exact_gelu=True)
  preprocessor = dict(
    size=dict(height=16, width=16), image_mean=[0.1] * 3, image_std=[0.2] * 3, do_normalize=True
  )
  variables = hf_folder(
    tmp_path / 'vit', 'hf', models.build('Ti/8', 3, **options), preprocessor=preprocessor,
    id2label={'1': 'bee', '0': 'ant', '2': 'cat'}, layer_norm_eps=1e-12,
  )  # fmt: skip
  opened = weights.open(tmp_path / 'vit')
  assert same(opened.variables, variables) and opened.class_names == CLASSES
  assert opened.model.options == models.options_of('S/8', options)
  assert (opened.mean, opened.std) == ((0.1,) * 3, (0.2,) * 3)
  assert opened.view == View.whole((16, 16), 3)
  assert '1e-12' in opened.line and 'assumed' not in opened.line
  assert weights.open(tmp_path / 'vit', model='Ti/8', options=TINY).name == 'Ti/8'


@pytest.mark.parametrize(
  'name, word, config, view',
  [
    (
      'DeiT-S/8-distilled',
      'hf-deit',
      dict(model_type='deit'),
      (dict(size=dict(height=20, width=20), crop_size=16), View.published((16, 16), 3, 0.8)),
    ),
    (
      'DINOv2-S/8',
      'hf-dinov2',
      dict(model_type='dinov2', mlp_ratio=2, intermediate_size=None),
      (dict(size=dict(shortest_edge=32), crop_size=dict(height=16, width=16)), 0.5),
    ),
    (
      'DINOv2-S/8-reg4',
      'hf-dinov2',
      dict(model_type='dinov2_with_registers', mlp_ratio=2, num_register_tokens=2),
      None,
    ),
  ],
)
def test_families_of_transformers(name, word, config, view, tmp_path):
  options = TINY | (dict(registers=2) if 'reg4' in name else {})
  classes = 3 if word == 'hf-deit' else 0
  model = models.build(name, classes, **options, **dict(posemb_class=True) if classes == 0 else {})
  config = {key: value for key, value in config.items() if value is not None}
  if 'mlp_ratio' in config:
    config['intermediate_size'] = 64
  variables = hf_folder(tmp_path, word, model, preprocessor=view and view[0], **config)
  opened = weights.open(tmp_path)
  assert opened.name == name and opened.model.num_classes == classes
  images_BHWC = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
  expected, got = (
    a.apply(b, images_BHWC, train=False).features_BD
    for a, b in ((model, variables), (opened.model, opened.variables))
  )
  np.testing.assert_allclose(got, expected, atol=1e-6)
  if view is None:
    assert 'assumed: mean (0.485, 0.456, 0.406)' in opened.line
  else:
    wanted = View.published((16, 16), 3, view[1]) if isinstance(view[1], float) else view[1]
    assert opened.view == wanted


def test_sizes_that_have_a_name():
  large = hf_config(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
  )
  assert huggingface._of_transformers(large)[0] == 'L/8'
  giant = dict(
    model_type='dinov2', hidden_size=1536, num_hidden_layers=40, num_attention_heads=24,
    mlp_ratio=4, use_swiglu_ffn=True, patch_size=14,
  )  # fmt: skip
  name, options = huggingface._of_transformers(giant)
  assert name == 'DINOv2-g/14' and options['mlp'] == 4096


@pytest.mark.parametrize('config', [dict(model_type='clip'), dict(hidden_act='relu')])
def test_a_model_that_is_none_of_ours_needs_a_name(config, tmp_path):
  hf_folder(tmp_path, 'hf', models.build('Ti/8', 3, **TINY), **config)
  with pytest.raises(UserError, match='--model is missing: .* does not say'):
    weights.open(tmp_path)
  assert weights.open(tmp_path, model='Ti/8', options=TINY).name == 'Ti/8'


@pytest.mark.parametrize(
  'architecture, name',
  [
    ('vit_base_patch16_224', 'B/16'),
    ('vit_small_patch14_reg4_dinov2', 'DINOv2-S/14-reg4'),
    ('deit3_medium_patch16_224', 'DeiT3-M/16'),
    ('deit_tiny_distilled_patch16_224', 'DeiT-Ti/16-distilled'),
    ('cait_xxs24_224', 'CaiT-XXS24'),
    ('resnet50', 'ResNet-50'),
    ('resnetv2_50x1_bit', 'BiT-R50x1'),
    ('vit_base_patch16_clip_224', ''),
    ('cait_m24_384', ''),
  ],
)
def test_architectures_of_timm(architecture, name):
  assert huggingface._of_timm({'architecture': architecture})[0] == name
  changed = {'architecture': architecture, 'model_args': {'embed_dim': 32}}
  assert huggingface._of_timm(changed)[0] == ''
  if name:
    models.options_of(name)


def test_a_folder_of_timm(tmp_path):
  """As timm's repositories at Hugging Face are."""
  cfg = dict(mean=[0.1] * 3, std=[0.2] * 3, input_size=[3, 32, 32], crop_pct=0.95)
  config = dict(architecture='resnet18', num_classes=3, pretrained_cfg=cfg, label_names=CLASSES)
  variables = hf_folder(tmp_path, 'timm-resnet', models.build('ResNet-18', 3), size=(32, 32))
  (tmp_path / 'config.json').write_text(json.dumps(config))
  opened = weights.open(tmp_path)
  assert same(opened.variables, variables) and opened.name == 'ResNet-18'
  assert opened.view == View.published((32, 32), 3, 0.95) and opened.class_names == CLASSES
  assert opened.mean == (0.1,) * 3


@pytest.fixture
def shards(tmp_path) -> tuple[Path, dict]:
  """A folder whose weights are in two files."""
  folder = tmp_path / 'shards'
  variables = hf_folder(folder, 'hf', models.build('Ti/8', 3, **TINY))
  arrays = files.read(folder / 'model.safetensors')
  (folder / 'model.safetensors').unlink()
  weight_map = {}
  for i, name in enumerate(sorted(arrays)):
    weight_map[name] = f'model-0000{1 + i % 2}-of-00002.safetensors'
  for shard in set(weight_map.values()):
    part = {name: array for name, array in arrays.items() if weight_map[name] == shard}
    safetensors.numpy.save_file(part, folder / shard)
  index = folder / 'model.safetensors.index.json'
  index.write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
  return folder, variables


def test_shards(shards):
  folder, variables = shards
  assert same(weights.open(folder).variables, variables)
  (folder / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(UserError, match='has no model-00002-of-00002.safetensors'):
    weights.open(folder)


def test_a_shard_without_its_leaf_and_one_elsewhere(shards):
  folder, _ = shards
  index = folder / 'model.safetensors.index.json'
  known = json.loads(index.read_text())
  index.write_text(json.dumps({'weight_map': known['weight_map'] | {'x': '../a.safetensors'}}))
  with pytest.raises(UserError, match='has no ../a.safetensors'):
    weights.open(folder)
  shard = 'model-00001-of-00002.safetensors'
  index.write_text(json.dumps({'weight_map': known['weight_map'] | {'x': shard}}))
  with pytest.raises(UserError, match='x is not in model-00001'):
    weights.open(folder)


def test_a_folder_with_pickles_alone(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(hf_config()))
  (tmp_path / 'pytorch_model.bin').write_bytes(b'')
  with pytest.raises(UserError, match='weights in pickles are not read'):
    weights.open(tmp_path)


@pytest.mark.parametrize('revision', ['main', 'v2'])
def test_a_repository(revision, tmp_path, monkeypatch):
  """From a stand-in for the hub."""
  hub = tmp_path / 'hub' / 'org' / 'name' / 'resolve' / revision
  variables = hf_folder(hub, 'hf', models.build('Ti/8', 3, **TINY))
  monkeypatch.setattr(huggingface, 'HUB', f'file://{tmp_path / "hub"}')
  source = 'hf://org/name' + ('' if revision == 'main' else f'@{revision}')
  opened = weights.open(source)
  assert same(opened.variables, variables) and source in opened.line
  shutil.rmtree(hub)
  assert same(weights.open(source).variables, variables)  # from the cache
  with pytest.raises(UserError, match='hf://org/other has no config.json'):
    weights.open('hf://org/other')


@pytest.fixture
def server(tmp_path):
  """Serves a folder on this machine; a path with 'broken' in it is answered with an error."""

  class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
      super().__init__(*args, directory=str(tmp_path / 'hub'))

    def send_head(self):
      return self.send_error(500) if 'broken' in self.path else super().send_head()

    def log_message(self, *args):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as found:
    threading.Thread(target=found.serve_forever).start()
    yield f'http://127.0.0.1:{found.server_port}'
    found.shutdown()


def test_a_repository_over_http(server, tmp_path, monkeypatch):
  pytest.importorskip('aiohttp')
  hub = tmp_path / 'hub' / 'org' / 'name' / 'resolve' / 'main'
  variables = hf_folder(hub, 'hf', models.build('Ti/8', 3, **TINY))
  monkeypatch.setattr(huggingface, 'HUB', server)
  assert same(weights.open('hf://org/name').variables, variables)
  with pytest.raises(UserError, match='hf://org/other has no config.json'):
    weights.open('hf://org/other')
  with pytest.raises(UserError, match='/broken/resolve/main/config.json cannot be fetched: 500'):
    weights.open('hf://org/broken')


# Starting from them.


def start(source, class_names=CLASSES, num_classes=3, size=SIZE, **options):
  model = models.build('Ti/8', num_classes, **TINY | options)
  fresh = made_up(99, num_classes, size, **options)
  found = weights.start_from(str(source), model, fresh, image_size=size, class_names=class_names)
  return fresh['params'], *found


def test_start_from_the_same_classes(run):
  _, variables, line, digest = start(run, pool='mean')
  assert same(variables, made_up(5, pool='mean')) and 'head' not in line
  assert digest == start(f'{run}@5', pool='mean')[3] != start(f'{run}@best', pool='mean')[3]


def test_start_from_the_same_classes_in_another_order(run):
  _, variables, line, _ = start(run, ('cat', 'ant', 'bee'), pool='mean')
  head, had = variables['params']['head'], made_up(5, pool='mean')['params']['head']
  for name in ('kernel', 'bias'):
    np.testing.assert_array_equal(head[name], had[name][..., [2, 0, 1]])
  assert 'order of these classes' in line and '0 fresh' in line


@pytest.mark.parametrize('names', [('ant', 'bee', 'dog'), ('ant', 'bee')])
def test_start_from_other_classes(run, names):
  """The head is fresh even where there are as many."""
  fresh, variables, line, _ = start(run, names, len(names), pool='mean')
  for name in ('kernel', 'bias'):
    np.testing.assert_array_equal(variables['params']['head'][name], fresh['head'][name])
  assert '2 fresh' in line and ('dog' in line) == ('dog' in names)
  np.testing.assert_array_equal(
    variables['params']['embedding']['kernel'],
    made_up(5, pool='mean')['params']['embedding']['kernel'],
  )


def test_start_from_a_file_without_names(tmp_path):
  ours = tiny()[1]
  files.write(tmp_path / 'a.npz', layout.to_published(registry.LAYOUTS['timm'], ours))
  _, variables, line, _ = start(tmp_path / 'a.npz', ('a', 'b', 'c', 'd', 'e'), 5, (16, 16))
  np.testing.assert_array_equal(variables['params']['head']['kernel'], ours['head/kernel'])
  assert 'names of its classes are not known' in line
  assert 'trained with model.exact_gelu=True' in line


def test_start_from_imagenet_by_other_names(tmp_path):
  """WordNet ids, as TFDS has them, and names with synonyms, as Hugging Face has them."""
  model = models.build('Ti/8', 1000, **TINY | dict(exact_gelu=True))
  labels = {str(k): f'{name}, synonym' for k, name in enumerate(imagenet.names())}
  variables = hf_folder(tmp_path, 'hf', model, id2label=labels)
  assert weights.open(tmp_path).class_names == imagenet.names()
  _, started, line, _ = start(tmp_path, imagenet.wordnet_ids(), 1000, (16, 16), exact_gelu=True)
  assert same(started, variables) and '0 fresh' in line


# For a teacher.


def test_inputs_without_reading_weights(run, tmp_path):
  assert weights.inputs_of(f'{run}@best', 'Ti/8').mean == MEAN
  layouts.write(tmp_path / 'a.npz', *weights.load(run), notes={'model': 'Ti/8'})
  assert weights.inputs_of(str(tmp_path / 'a.npz'), 'Ti/8').std == STD
  for source in ('nowhere.npz', 'hf://org/name', 'augreg:B/16'):
    assert weights.inputs_of(source, 'ResNet-50') == models.inputs_of('ResNet-50')
