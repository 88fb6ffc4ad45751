"""A model's weights as a file in any layout: what `vit_jax convert` and `Run.export` write."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vit_jax import fields
from vit_jax.errors import UserError, writing
from vit_jax.layouts import files, positions, preprocessing, registry
from vit_jax.layouts.layout import Layout, to_published
from vit_jax.models.inputs import Inputs
from vit_jax.models.options import ViTOptions
from vit_jax.paths import local
from vit_jax.trees import flatten_variables
from vit_jax.writes import write as write_whole

# Tried in this order if no layout is asked for.
_BY_SUFFIX = {
  '.npz': ('google', 'big_vision', 'timm', 'hf'),
  '.safetensors': ('timm', 'hf', 'google', 'big_vision'),
}
# Options in which libraries differ for the same weights: the outputs depend on them, no shape does.
TRAITS = ('exact_gelu', 'weight_epsilon')


def write(
  path: Path | str,
  model: Any,
  variables: Mapping[str, Any],
  family: str | None = None,
  notes: Mapping[str, Any] | None = None,
) -> str:
  """Writes a file of weights; returns a sentence with the code that builds the model elsewhere.

  The file also holds the model's options and inputs, so `weights.open` needs no other arguments,
  and the inputs in the words of timm or transformers, in a layout of theirs.

  Args:
    path: ends in .npz or .safetensors.
    family: one of `registry.FAMILIES` or a name of `registry.LAYOUTS`; by default the first that
      can hold the model.
    notes: more for the file to hold: 'model', the name of the model.

  Raises:
    UserError: the layout cannot hold the model, or the file cannot be written.
  """
  path = local(path)
  files.format_of(path)
  families = (family,) if family else _BY_SUFFIX[path.suffix.lower()]
  chosen, leaves, options = _arranged(model, variables, families, bool(family))
  notes = _notes(notes, options, model.inputs, chosen)
  if path.suffix.lower() == '.npz' and len(json.dumps(notes)) > files.NPZ_NOTES:
    notes['inputs']['class_names'] = []  # of tens of thousands of classes
  files.write(path, chosen.complete(to_published(chosen, leaves)), notes)
  beside, call = '', ''
  if preprocessing.HUGGING_FACE in notes and path.name == 'model.safetensors':
    # A folder of Hugging Face, whose processor is read from this file alone.
    beside = f', with {preprocessing.HUGGING_FACE}.json beside it'
    with writing(path.parent):
      _write_preprocessor(path.parent, notes)
  if type(options) is ViTOptions and not options.conv_stem:
    call = chosen.call(options, model.inputs, model.num_classes)
  if call and chosen.words.startswith('timm'):
    call += f', whose images are seen by {preprocessing.timm_call(model.inputs)}'
  return f'written to {path} ({chosen.words}){beside}' + (f'; there it is {call}' if call else '')


def write_folder(
  folder: Path,
  model: Any,
  variables: Mapping[str, Any],
  family: Literal['hf', 'timm'],
  notes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Writes a folder that transformers or timm loads: config.json, model.safetensors, and for
  transformers preprocessor_config.json; returns the configuration.

  Raises:
    UserError: the library has no such model, or a file cannot be written.
  """
  chosen, leaves, options = _arranged(model, variables, (family,), True)
  config = chosen.config(options, model.inputs, model.num_classes)
  if not config:
    raise UserError(f'{chosen.words} has no model with these options')
  notes = _notes(notes, options, model.inputs, chosen)
  names = dict(enumerate(model.inputs.class_names))
  if family == 'timm':
    seen = {**notes[preprocessing.TIMM], 'num_classes': model.num_classes}
    config |= {'pretrained_cfg': seen, **({'label_names': [*names.values()]} if names else {})}
  elif names:
    config |= {'id2label': names, 'label2id': {name: k for k, name in names.items()}}
  with writing(folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / 'config.json', json.dumps(config, indent=2) + '\n')
    if family == 'hf':
      _write_preprocessor(folder, notes)
  files.write(folder / 'model.safetensors', chosen.complete(to_published(chosen, leaves)), notes)
  return config


def _write_preprocessor(folder: Path, notes: Mapping[str, Any]) -> None:
  path = folder / f'{preprocessing.HUGGING_FACE}.json'
  write_whole(path, json.dumps(notes[preprocessing.HUGGING_FACE], indent=2) + '\n')


def _arranged(
  model: Any, variables: Mapping[str, Any], families: Sequence[str], asked: bool
) -> tuple[Layout, dict[str, Any], Any]:
  """(the layout, the leaves as it holds them, the options that they have there).

  Args:
    asked: whether somebody asked for this very family.
  """
  leaves, options = flatten_variables(variables), model.options
  if isinstance(options, ViTOptions):
    # Computed positions are stored as if learned in a layout that was asked for.
    computed = asked and options.posemb == 'sincos2d'
    kinds = (options.posemb, 'learned') if computed else (options.posemb,)
    chosen = registry.layout_for(families, leaves, options.pool, kinds)
    if computed and 'sincos2d' not in chosen.positions:
      from vit_jax.models.embedding import sincos2d  # flax takes a second to import

      rows, columns = model.grid(model.inputs.size)
      leaves['pos_embedding'] = sincos2d(rows, columns, options.width)
      options = dataclasses.replace(options, posemb='learned', posemb_class=False)
    leaves, options = _slots(leaves, options, chosen)
    if not options.qkv_bias and 'timm' not in chosen.words:  # only timm has such models
      leaves |= _zero_biases(leaves)
      options = dataclasses.replace(options, qkv_bias=True)
  else:
    chosen = registry.layout_for(families, leaves)
  return chosen, leaves, options


def _notes(
  notes: Mapping[str, Any] | None, options: Any, inputs: Inputs, chosen: Layout
) -> dict[str, Any]:
  return {
    **(notes or {}),
    'options': fields.plain(options),
    'inputs': fields.plain(dataclasses.replace(inputs, source='')),
    **_for_others(inputs, chosen),
  }


def _for_others(inputs: Inputs, chosen: Layout) -> dict[str, Any]:
  """How images are seen, in the words of the library that the layout is of."""
  if chosen.words.startswith('timm'):
    return {preprocessing.TIMM: preprocessing.to_timm(inputs)}
  if chosen.words.startswith('Hugging Face'):
    return {preprocessing.HUGGING_FACE: preprocessing.to_hugging_face(inputs)}
  return {}


def traits(options: Any) -> dict[str, Any]:
  return {name: getattr(options, name) for name in TRAITS if hasattr(options, name)}


def _zero_biases(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """Biases of the projections to queries, keys and values that change nothing."""
  name = 'encoder/blocks/attention/qkv/'
  L, D, three, A, E = leaves[f'{name}kernel'].shape
  return {f'{name}bias': np.zeros((L, three, A * E), np.float32)}


def _slots(
  leaves: dict[str, Any], options: ViTOptions, chosen: Layout
) -> tuple[dict[str, Any], ViTOptions]:
  """Leaves whose position table has the slots for class tokens that the layout wants."""
  count = sum(token in leaves for token in positions.SLOTS)
  if options.posemb == 'learned' and count:
    if chosen.slots == 'always' and not options.posemb_class:
      return positions.make_slots(leaves, count), dataclasses.replace(options, posemb_class=True)
    if chosen.slots == 'without registers' and options.posemb_class and options.registers:
      return positions.fold_slots(leaves, count), dataclasses.replace(options, posemb_class=False)
  return leaves, options
