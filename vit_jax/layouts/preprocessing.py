"""How images are seen, in the words of timm's pretrained_cfg and of transformers' processors."""

from collections.abc import Mapping
from typing import Any

from vit_jax.fields import check
from vit_jax.models.inputs import HALF, Inputs, uncropped

TIMM, HUGGING_FACE = 'pretrained_cfg', 'preprocessor_config'
_PILLOW = {2: 'bilinear', 3: 'bicubic'}  # numbers of PIL.Image.Resampling


def of_timm(cfg: Mapping[str, Any]) -> tuple[Inputs, tuple[str, ...]]:
  """(inputs, remarks on what is done differently) of a pretrained_cfg."""
  remarks = []
  interpolation, mode = cfg.get('interpolation') or 'bicubic', cfg.get('crop_mode') or 'center'
  if interpolation not in _PILLOW.values():
    remarks.append(f'images are resized bicubic, not {interpolation}')
    interpolation = 'bicubic'
  if mode not in ('center', 'squash'):
    remarks.append(f'images are cropped, not {mode} as timm has it')
  inputs = Inputs(
    sides(cfg.get('input_size', (3, 224, 224))[-2:]),
    tuple(cfg.get('mean') or HALF),
    tuple(cfg.get('std') or HALF),
    cfg.get('crop_pct') or 0.875,
    interpolation,
    'change' if mode == 'squash' else 'keep',
    source='its pretrained_cfg',
  )
  return inputs, tuple(remarks)


def to_timm(x: Inputs) -> dict[str, Any]:
  """What `timm.data.create_transform` takes."""
  return {
    'input_size': (len(x.mean), *x.size),
    'mean': x.mean,
    'std': x.std,
    'crop_pct': x.crop,
    'crop_mode': 'squash' if x.aspect == 'change' else 'center',
    'interpolation': x.interpolation,
  }


def timm_call(x: Inputs) -> str:
  words = ', '.join(f'{name}={value!r}' for name, value in to_timm(x).items())
  return f'timm.data.create_transform({words})'


def of_hugging_face(
  config: Mapping[str, Any], model_type: str = ''
) -> tuple[Inputs, tuple[str, ...]]:
  """(inputs, remarks on what is done differently) of a preprocessor_config.json.

  Args:
    model_type: of its config.json, where the processor has no name.
  """
  get, remarks = config.get, []
  size, cut = get('size') or 224, get('crop_size')
  shorter = size.get('shortest_edge') if isinstance(size, Mapping) else None
  resized = sides(size)
  kept = sides(cut) if cut and get('do_center_crop', True) else resized
  mean, std = tuple(get('image_mean') or HALF), tuple(get('image_std') or HALF)
  if not get('do_normalize', True):
    mean, std = (0.0,) * len(mean), (1.0,) * len(std)
  kind = str(get('image_processor_type') or get('feature_extractor_type') or model_type)
  # image_processing_vit.py has another default than those of DeiT and of BiT, which DINOv2 takes.
  resample = get('resample', 2 if kind.lower().startswith('vit') else 3)
  if resample not in _PILLOW:
    remarks.append(f'images are resized bicubic, not by filter {resample} of Pillow')
  inputs = Inputs(
    kept,
    mean,
    std,
    min(min(kept) / shorter if shorter else kept[0] / resized[0], 1.0),
    'bilinear' if _PILLOW.get(resample) == 'bilinear' else 'bicubic',
    'keep' if shorter else 'change',
    source='its preprocessor_config.json',
  )
  return inputs, tuple(remarks)


def to_hugging_face(x: Inputs) -> dict[str, Any]:
  """A preprocessor_config.json, of the processor that can both resize and crop."""
  height, width = uncropped(x.size, x.crop)
  keep = x.aspect == 'keep'
  size = {'shortest_edge': min(height, width)} if keep else {'height': height, 'width': width}
  return {
    'image_processor_type': 'BitImageProcessor',
    'do_resize': True,
    'size': size,
    'resample': {word: number for number, word in _PILLOW.items()}[x.interpolation],
    'do_center_crop': True,
    'crop_size': {'height': x.size[0], 'width': x.size[1]},
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'do_normalize': True,
    'image_mean': x.mean,
    'image_std': x.std,
  }


def sides(size: Any) -> tuple[int, int]:
  """(H, W) of 224, [224, 224] or {'height': 224, 'width': 224}; else an error."""
  if isinstance(size, Mapping):
    size = size.get('height') or size['shortest_edge'], size.get('width') or size['shortest_edge']
  height, width = (size, size) if isinstance(size, int) else size
  return check(height, int, 'height', {'low': 1}), check(width, int, 'width', {'low': 1})
