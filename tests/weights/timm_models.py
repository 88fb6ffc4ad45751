"""timm's models with random weights. Needs torch and timm."""

import functools
import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch')
if importlib.util.find_spec('timm') is None:  # importing it takes the stand-ins of the bench
  pytest.skip('timm is not installed', allow_module_level=True)


def import_timm() -> Any:
  """timm; its stand-ins for torchvision are taken away again, for they confuse transformers."""
  from vit_jax.bench.timm_worker import _import_timm

  timm = _import_timm()
  for name, module in list(sys.modules.items()):
    if name.partition('.')[0] == 'torchvision' and module.__spec__ is None:
      del sys.modules[name]
  return timm


def timm_model(name: str, seed: int = 0, **options: Any) -> Any:
  """In evaluation mode, with everything random and of a size that shows in the result.

  timm's own initialization has layers that hardly do anything, and biases and LayerScales that
  are all the same. Convolutions keep it, but for those that start at zero.

  Args:
    **options: of `timm.create_model`; `backbone` are those of the ResNet below a hybrid.
  """
  torch.manual_seed(seed)
  timm = import_timm()
  if 'backbone' in options:
    options['embed_layer'] = _hybrid_embedding(timm, **options.pop('backbone'))
  make = timm.create_model
  if name.endswith('_bit') and options:
    make = timm.models.resnetv2._create_resnetv2_bit  # the one that takes other stages
  model = make(name, **options).eval()
  if hasattr(model, 'layer1'):  # a ResNet calls all four stages, whatever it was made of
    for i in range(len(options.get('layers', range(4))), 4):
      model.add_module(f'layer{i + 1}', torch.nn.Identity())
  with torch.no_grad():
    for key, value in model.state_dict().items():
      if not value.is_floating_point():
        continue
      if value.ndim == 4 and not value.any():
        value.normal_(0, value[0].numel() ** -0.5)
      elif value.ndim == 1 and key.endswith('weight') and not value.any():
        value.uniform_(0.1, 0.3)  # at the end of a residual branch, or deep networks explode
      elif key.endswith('running_var') or value.ndim == 1 and key.endswith('weight'):
        value.uniform_(0.5, 1.5)
      elif key.endswith(('gamma', 'gamma_1', 'gamma_2')):  # LayerScale
        value.uniform_(0.2, 0.6)
      elif value.ndim == 1:
        value.normal_(0, 0.1)
      elif value.ndim == 2:
        value.normal_(0, value.shape[1] ** -0.5)
      elif value.ndim == 3:  # tokens and positions
        value.normal_(0, 0.5)
  return model


def _hybrid_embedding(timm: Any, **options: Any) -> Any:
  """As timm's vision_transformer_hybrid.py makes it, of any size."""
  conv = functools.partial(timm.layers.StdConv2dSame, eps=1e-8)
  backbone = timm.models.resnetv2.ResNetV2(
    num_classes=0, global_pool='', preact=False, stem_type='same', conv_layer=conv, **options
  )
  return functools.partial(timm.layers.HybridEmbed, backbone=backbone)


def images(size: int | tuple[int, int], count: int = 2, seed: int = 0) -> np.ndarray:
  """N(0, 1), (B, H, W, 3)."""
  height, width = (size, size) if isinstance(size, int) else size
  rng = np.random.default_rng(seed)
  return rng.normal(size=(count, height, width, 3)).astype(np.float32)


def output_of(model: Any, images_BHWC: np.ndarray) -> np.ndarray:
  """Logits, or features where there is no head."""
  with torch.no_grad():
    return model(torch.from_numpy(images_BHWC.transpose(0, 3, 1, 2).copy())).numpy()


def state(model: Any) -> dict[str, np.ndarray]:
  return {name: value.numpy() for name, value in model.state_dict().items()}
