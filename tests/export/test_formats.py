"""`vit_jax export`: each format is loaded by its own consumer and gives the model's outputs."""

import json
from dataclasses import replace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights.made_up import TINY, random_variables
from tests.weights.made_up_folder import made_up
from tests.weights.made_up_run import CLASSES, write_run
from vit_jax import commands, models
from vit_jax import weights as weights_room
from vit_jax.errors import RunFault, UserError
from vit_jax.export import onnx as onnx_file
from vit_jax.export import stablehlo
from vit_jax.export.export import FORMATS, export
from vit_jax.layouts import write_folder

# name -> (options, side, whether transformers has such a class)
MODELS = {
  'Ti/8': (TINY, 16, True),
  'Ti/16': (TINY | dict(pool='mean', qk_norm=True), 32, False),
  'S/16': (TINY | dict(pool='map'), 32, False),
  'B/8': (TINY | dict(posemb='sincos2d', exact_gelu=True), 16, True),
  'DeiT-Ti/16-distilled': (TINY, 32, True),
  'DINOv2-S/14': (TINY, 28, True),
  'DINOv2-S/14-reg4': (TINY, 28, True),
  'DINOv2-g/14': (TINY | dict(mlp=88), 28, True),
  'CaiT-XXS24': (TINY, 32, False),
  'R+Ti/16': (TINY, 32, False),
  'R26+S/32': (TINY, 64, False),
  'ResNet-18': (dict(stages=(1, 1, 1, 1)), 32, False),
  'BiT-R50x1': ({}, 32, False),
  'AlexNet': (dict(width=8), 64, False),
  'LeNet-5': ({}, 32, False),
}
OFTEN = (
  'Ti/8',
  'S/16',
  'DeiT-Ti/16-distilled',
  'DINOv2-S/14-reg4',
  'CaiT-XXS24',
  'ResNet-18',
  'LeNet-5',
)
NOT_IN_TIMM = ('AlexNet', 'LeNet-5')
NAMES = ('ant', 'bee', 'cat')


def params(names):
  return [pytest.param(n, marks=[pytest.mark.slow] * (n not in OFTEN)) for n in names]


def make(name):
  """(model, variables, images of the model, its logits)."""
  options, side, _ = MODELS[name]
  inputs = replace(models.inputs_of(name, (side, side)), class_names=NAMES)
  model, channels = models.build(name, 3, inputs=inputs, **options), len(inputs.mean)
  if channels == 3:
    variables = random_variables(model, side)
  else:
    init = jnp.zeros((1, side, side, channels))
    variables = jax.device_get(model.init(jax.random.key(0), init, train=False))
  shape = (3, side, side, channels)
  images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
  with jax.default_matmul_precision('float32'):
    logits = np.asarray(model.apply(variables, images, train=False).logits_BK)
  assert np.abs(logits[0] - logits[1]).max() > 1e-3 * np.abs(logits).max()
  return model, variables, images, logits


def check(found, expected):
  """Within 1e-4 of the largest logit."""
  assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def to_torch(images):
  torch = pytest.importorskip('torch')
  return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


@pytest.mark.parametrize('name', params(MODELS))
def test_onnxruntime_gives_the_same_for_any_batch(name, tmp_path):
  pytest.importorskip('onnx')
  runtime = pytest.importorskip('onnxruntime')
  model, variables, images, logits = make(name)
  onnx_file.write(tmp_path / 'a.onnx', model, variables, {'class_names': NAMES})
  session = runtime.InferenceSession(tmp_path / 'a.onnx')
  assert json.loads(session.get_modelmeta().custom_metadata_map['class_names']) == [*NAMES]
  assert session.get_inputs()[0].shape[0] == 'batch'
  for count in (1, 3):
    (found,) = session.run(None, {'pixel_values': images[:count].transpose(0, 3, 1, 2)})
    check(found, logits[:count])


def test_weights_beyond_a_protobuf_are_beside_the_file(tmp_path, monkeypatch):
  pytest.importorskip('onnx')
  runtime = pytest.importorskip('onnxruntime')
  monkeypatch.setattr(onnx_file, 'LARGEST', 1)
  model, variables, images, logits = make('Ti/8')
  for _ in range(2):  # the second replaces the first
    onnx_file.write(tmp_path / 'a.onnx', model, variables, {})
  assert (tmp_path / 'a.onnx.data').stat().st_size < 2 * 4 * sum(
    leaf.size for leaf in jax.tree.leaves(variables)
  )
  session = runtime.InferenceSession(tmp_path / 'a.onnx')
  check(session.run(None, {'pixel_values': images.transpose(0, 3, 1, 2)})[0], logits)


@pytest.mark.parametrize(
  'name',
  [
    'ResNet-18',
    *(pytest.param(n, marks=pytest.mark.slow) for n in ('Ti/8', *OFTEN[3:5], 'LeNet-5')),
  ],
)
def test_stablehlo_takes_pixels_and_floats_of_any_batch(name, tmp_path):
  model, variables, _, _ = make(name)
  inputs = model.inputs
  pixels = np.random.default_rng(0).integers(
    0, 256, (2, *inputs.size, len(inputs.mean)), dtype=np.uint8
  )
  images = (pixels / 255 - np.array(inputs.mean)) / np.array(inputs.std)
  expected = np.asarray(model.apply(variables, images.astype(np.float32), train=False).logits_BK)
  whole, floats = stablehlo.write(tmp_path, model, variables)
  for count in (1, 2):
    for path, given in ((whole, pixels), (floats, pixels.astype(np.float32) / 255)):
      program = jax.export.deserialize(bytearray(path.read_bytes()))
      assert {'cpu', 'cuda', 'tpu'} <= set(program.platforms)
      check(np.asarray(program.call(given[:count])), expected[:count])


def written(folder, name, family):
  """(model, images, logits); the folder of another library, which we open with the same logits."""
  model, variables, images, logits = make(name)
  write_folder(folder, model, variables, family, {'model': name})
  again = weights_room.open(folder)
  assert again.name == name and again.class_names == NAMES
  check(np.asarray(again.model.apply(again.variables, images, train=False).logits_BK), logits)
  return model, images, logits


@pytest.mark.parametrize('name', params(n for n in MODELS if n not in NOT_IN_TIMM))
def test_timm_gives_the_same(name, tmp_path):
  model, images, logits = written(tmp_path, name, 'timm')
  pytest.importorskip('timm')
  from tests.weights.timm_models import import_timm, output_of

  rival = import_timm().create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
  check(output_of(rival, images), logits)
  assert tuple(rival.pretrained_cfg['mean']) == model.inputs.mean
  assert tuple(rival.pretrained_cfg['label_names']) == NAMES


@pytest.mark.parametrize('name', [name for name, line in MODELS.items() if line[2]])
def test_transformers_gives_the_same(name, tmp_path):
  model, images, logits = written(tmp_path, name, 'hf')
  pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  rival, said = transformers.AutoModelForImageClassification.from_pretrained(
    tmp_path, output_loading_info=True
  )
  assert not said['missing_keys'] and not said['unexpected_keys']
  assert rival.config.id2label == dict(enumerate(NAMES))
  import torch

  with torch.no_grad():
    check(rival.eval()(to_torch(images)).logits.numpy(), logits)


def test_a_classifier_that_sees_the_patches_too_is_left_out(tmp_path):
  """As DINOv2's own has it; there is no such head here."""
  from vit_jax.layouts import files

  model, variables, *_ = make('DINOv2-S/14')
  write_folder(tmp_path, model, variables, 'hf')
  leaves = dict(files.read(tmp_path / 'model.safetensors'))
  assert leaves['classifier.weight'].shape == (3, 64)
  leaves['classifier.weight'] = leaves['classifier.weight'] + 1
  files.write(tmp_path / 'model.safetensors', leaves)
  opened = weights_room.open(tmp_path)
  assert opened.model.num_classes == 0
  assert 'which also sees the mean of the patches, is left out' in opened.line


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs') / 'bugs'
  made = {2: (made_up(2), 0.9), 5: (made_up(5), 0.4)}
  found = write_run(folder, made)
  rows = [{'step': 2, 'val/top1': 0.9}, {'step': 5, 'val/top1': 0.4}]
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return found.path


def test_the_command_writes_all_formats_with_cards(run, tmp_path, capsys):
  assert commands.main(['export', f'{run}@best', f'--to={tmp_path}']) == 0
  said = capsys.readouterr().out
  for name in FORMATS:
    if f'{name}: left out' in said:
      assert name == 'onnx' and "pip install 'vit-jax[onnx]'" in said
      continue
    assert f'{name}: {tmp_path / name}, ' in said
    text = (tmp_path / name / 'README.md').read_text()
    assert '9 training images, 3 classes' in text and ', '.join(CLASSES) in text
    assert '| val | top1 | 0.9000 |' in text  # of the checkpoint that was exported
    assert '"image_size"' in text and str(run.parent) not in text
  config = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  assert config['id2label'] == {'0': 'ant', '1': 'bee', '2': 'cat'}
  assert 'outputs of random images agree within' in said


def test_what_has_no_such_model_is_left_out_or_refused(run, tmp_path):
  pooled = write_run(tmp_path / 'run', {2: (made_up(2, pool='mean'), 0.9)}, pool='mean').path
  lines = list(export(str(pooled), tmp_path / 'a', ('timm', 'stablehlo')))
  assert [line.partition(':')[0] for line in lines[1:]] == ['timm', 'stablehlo']
  with pytest.raises(UserError, match="no models with pool='mean'"):
    list(export(str(pooled), tmp_path / 'a', ('hf',)))
  assert any('hf: left out' in line for line in export(str(pooled), tmp_path / 'b'))
  assert not (tmp_path / 'b' / 'hf').exists()
  with pytest.raises(UserError, match="'tim' is unknown; did you mean 'timm'"):
    list(export(str(run), tmp_path / 'a', ('tim',)))


def test_other_numbers_are_a_fault(run, tmp_path, monkeypatch):
  from vit_jax.export import export as module

  def wrong(folder, model, variables, *rest):
    return write_folder(folder, model, jax.tree.map(lambda leaf: 1.1 * leaf, variables), *rest)

  monkeypatch.setattr(module, 'write_folder', wrong)
  with pytest.raises(RunFault, match='do not use it'):
    list(export(str(run), tmp_path, ('timm',)))
