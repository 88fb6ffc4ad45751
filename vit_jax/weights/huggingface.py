"""Folders and repositories of Hugging Face: config.json names a model of transformers or timm.

They also hold model.safetensors, or shards of it with an index, and for transformers
preprocessor_config.json.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax import fields, models
from vit_jax.data import imagenet
from vit_jax.errors import UserError
from vit_jax.layouts import files, preprocessing
from vit_jax.layouts.published import find
from vit_jax.models import Inputs
from vit_jax.models.sizes import Size
from vit_jax.reads import content
from vit_jax.remote.fetch import NotThere
from vit_jax.weights.hub import fetch_from_hub
from vit_jax.weights.stored import Stored, published

PREFIX = 'hf://'
CONFIG, WEIGHTS, INDEX = 'config.json', 'model.safetensors', 'model.safetensors.index.json'
PREPROCESSOR = 'preprocessor_config.json'

Get = Callable[[str], Path | None]  # the file of a name; None if there is none

# transformers' model_type -> our family and variant.
_FAMILIES = {
  'vit': ('', ''),
  'deit': ('DeiT-', '-distilled'),
  'dinov2': ('DINOv2-', ''),
  'dinov2_with_registers': ('DINOv2-', '-reg4'),
}
_GELU = {'gelu': True, 'gelu_new': False, 'gelu_pytorch_tanh': False, 'gelu_fast': False}


# What is read of config.json, and the type of each; where a bound is missing it is that of `check`.
_KEYS: dict[str, Any] = {
  'model_type': str,
  'architecture': str,
  'hidden_act': str,
  'hidden_size': int,
  'patch_size': int,
  'num_hidden_layers': int,
  'num_attention_heads': int,
  'intermediate_size': int,
  'mlp_ratio': float,
  'use_swiglu_ffn': bool,
  'num_register_tokens': int,
  'layer_norm_eps': float,
}


def is_model(folder: Path) -> bool:
  try:
    return bool({'model_type', 'architecture'} & _json(folder / CONFIG).keys())
  except UserError:
    return False


def read_folder(folder: Path) -> Stored:
  """Raises UserError if a file is missing or damaged; so does `read_repository`."""

  def get(name: str) -> Path | None:
    return folder / name if (folder / name).is_file() else None

  return _read(str(folder), get)


def read_repository(address: str, cache: Path) -> Stored:
  """The weights of hf://ORG/NAME or hf://ORG/NAME@REVISION."""
  repository, _, revision = address.removeprefix(PREFIX).partition('@')

  def get(name: str) -> Path | None:
    try:
      return fetch_from_hub(repository, revision or 'main', name, cache)
    except NotThere:
      return None

  return _read(address, get)


def inputs_of(folder: Path) -> Inputs | None:
  """The images that the weights expect, without reading them; None if nothing says so."""
  return inputs_of_config(_json(folder / CONFIG), _json(folder / PREPROCESSOR), str(folder))[0]


def _read(where: str, get: Get) -> Stored:
  config = _json(get(CONFIG))
  if not config:
    raise UserError(f'{where} has no {CONFIG}; it should say which model it is')
  for key in _KEYS.keys() & config.keys():
    low = 1 if _KEYS[key] is int and key != 'num_register_tokens' else 0
    fields.check(config[key], _KEYS[key], f'{where}: {key} of {CONFIG}', {'low': low})
  stored = published(_arrays(where, get), where)
  weights = get(WEIGHTS)
  notes = files.notes(weights) if weights else {}
  if 'options' in notes:  # it is ours, and says all
    (name, options), preprocessor = (
      (notes.get('model', ''), notes['options']),
      _json(get(PREPROCESSOR)),
    )
  elif 'architecture' in config:
    (name, options), preprocessor = _of_timm(config), {}
  else:
    (name, options), preprocessor = _of_transformers(config), _json(get(PREPROCESSOR))
  inputs, remarks = inputs_of_config(config, preprocessor, where)
  with _understood(where):
    size = preprocessing.sides(config['image_size']) if 'image_size' in config else None
  if 'options' in notes and 'inputs' in notes:
    inputs = fields.build(Inputs, {**notes['inputs'], 'source': 'its metadata'}, f'{where}: inputs')
    size, remarks = inputs.size, ()
  epsilon = config.get('layer_norm_eps', 1e-6)
  if epsilon != 1e-6:
    remarks += (f'LayerNorm adds 1e-06 to the variance, not {epsilon:g}',)
  remarks = *stored.remarks, *remarks
  return replace(
    stored, name=name, options=options, inputs=inputs, table_size=size, remarks=remarks
  )


def _arrays(where: str, get: Get) -> dict[str, np.ndarray]:
  """All leaves of one file, or of the shards that an index names."""
  path = get(WEIGHTS)
  if path is not None:
    return files.read(path)
  shard_of = _json(get(INDEX)).get('weight_map', {})
  if not isinstance(shard_of, dict) or not all(isinstance(s, str) for s in shard_of.values()):
    raise UserError(f'{where}: weight_map of {INDEX} is not a table of the file of each name')
  if not shard_of:
    raise UserError(
      f'{where} has no {WEIGHTS}; weights in pickles are not read: save them anew with '
      'safe_serialization=True'
    )
  out: dict[str, np.ndarray] = {}
  for shard in sorted(set(shard_of.values())):
    path = get(shard) if Path(shard).name == shard else None
    if path is None:
      raise UserError(f'{where} has no {shard}, which {INDEX} names')
    out |= files.read(path)
  missing = [name for name in shard_of if name not in out]
  if missing:
    raise UserError(f'{where}: {missing[0]} is not in {shard_of[missing[0]]}, where {INDEX} has it')
  return out


def _of_transformers(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
  """(our name, options) of the same model; ('', {}) if there is none."""
  get, kind = config.get, config['model_type']
  if kind not in _FAMILIES or get('hidden_act', 'gelu') not in _GELU:
    return '', {}
  family, variant = _FAMILIES[kind]
  width, patch = get('hidden_size', 768), get('patch_size', 16)
  mlp, gated = get('intermediate_size', int(width * get('mlp_ratio', 4))), get('use_swiglu_ffn')
  if gated:
    mlp = (int(mlp * 2 / 3) + 7) // 8 * 8
  size = Size(width, get('num_hidden_layers', 12), mlp, get('num_attention_heads', 12))
  options = size._asdict() | {'exact_gelu': _GELU[get('hidden_act', 'gelu')]}
  options['mlp_kind'] = 'swiglu' if gated else 'gelu'
  if kind == 'dinov2_with_registers':
    options['registers'] = get('num_register_tokens', 4)
  for base, entry in models.MODELS.items():
    same = entry.defaults.items() >= size._asdict().items()
    if same and entry.family == models.MODELS[f'{family}S'].family and base.startswith(family):
      return f'{base}/{patch}{variant}', options
  return f'{family}S/{patch}{variant}', options


def _of_timm(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
  others = set(config.get('model_args') or {}) - {'img_size', 'num_classes'}
  known = find(config['architecture'])
  if known is None or known.owner != 'timm' or others:
    return '', {}
  return known.model, dict(known.options)


def inputs_of_config(
  config: Mapping[str, Any], preprocessor: Mapping[str, Any], where: str
) -> tuple[Inputs | None, tuple[str, ...]]:
  """(the images that the weights expect, remarks on what is done differently)."""
  with _understood(where):
    if preprocessing.TIMM in config:
      inputs, remarks = preprocessing.of_timm(config[preprocessing.TIMM])
    elif preprocessor:
      inputs, remarks = preprocessing.of_hugging_face(preprocessor, config.get('model_type', ''))
    else:
      return None, ()
    fields.build(Inputs, fields.plain(inputs), where)  # checks every value
    return replace(inputs, class_names=_class_names(config)), remarks


@contextmanager
def _understood(where: str) -> Iterator[None]:
  """Around reading what others wrote of images and classes, in which any value may be wrong."""
  try:
    yield
  except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError):
    raise UserError(f'{where} says of its images what cannot be understood') from None


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
  """() if they are not known: 'LABEL_0' is not a name."""
  named = config.get('id2label') or {}
  if 'label_names' in config:
    found = tuple(config['label_names'])
  else:
    found = tuple(named[k] for k in sorted(named, key=int))
  if not all(isinstance(name, str) for name in found):
    raise ValueError('a name of a class is no text')
  unknown = found == tuple(f'LABEL_{k}' for k in range(len(found)))
  return () if unknown else imagenet.canonical(found)


def _json(path: Path | None) -> dict[str, Any]:
  """The object in a file; {} if there is none. Raises a UserError if it is damaged."""
  try:
    found = json.loads(content(path)) if path and path.exists() else {}
  except (OSError, ValueError, RecursionError):
    found = None
  if not isinstance(found, dict):
    raise UserError(f'{path} is damaged: it does not hold a JSON object')
  return found
