"""Folders of Hugging Face with random weights, and comparing variables."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from tests.weights.made_up import TINY, random_variables
from vit_jax import models
from vit_jax.layouts import layout, registry
from vit_jax.trees import flatten_variables

SIZE = (16, 24)


def made_up(seed: int = 0, num_classes: int = 3, size=SIZE, **options):
  return random_variables(models.build('Ti/8', num_classes, **TINY | options), size, seed)


def same(a, b) -> bool:
  a, b = flatten_variables(a), flatten_variables(b)
  return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


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
