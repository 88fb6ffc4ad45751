"""A model's weights as a file in any layout: what `vit_jax convert` and `Run.export` write."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax import fields
from vit_jax.layouts import files, positions, registry
from vit_jax.layouts.layout import Layout, to_published
from vit_jax.models.options import ViTOptions
from vit_jax.paths import local
from vit_jax.trees import flatten_variables

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

  The file also holds the model's options and inputs, so `weights.open` needs no other arguments.

  Args:
    path: ends in .npz or .safetensors.
    family: one of `registry.FAMILIES` or a name of `registry.LAYOUTS`; by default the first that
      can hold the model.
    notes: more for the file to hold: 'model', the name of the model.

  Raises:
    UserError: the layout cannot hold the model, or the file cannot be written.
  """
  path, leaves, options = local(path), flatten_variables(variables), model.options
  files.format_of(path)
  families = (family,) if family else _BY_SUFFIX[path.suffix.lower()]
  if isinstance(options, ViTOptions):
    # Computed positions are stored as if learned in a layout that was asked for.
    computed = bool(family) and options.posemb == 'sincos2d'
    kinds = (options.posemb, 'learned') if computed else (options.posemb,)
    chosen = registry.layout_for(families, leaves, options.pool, kinds)
    if computed and 'sincos2d' not in chosen.positions:
      from vit_jax.models.embedding import sincos2d  # flax takes a second to import

      rows, columns = model.grid(model.inputs.size)
      leaves['pos_embedding'] = sincos2d(rows, columns, options.width)
      options = dataclasses.replace(options, posemb='learned', posemb_class=False)
    leaves, options = _slots(leaves, options, chosen)
  else:
    chosen = registry.layout_for(families, leaves)
  notes = {
    **(notes or {}),
    'options': fields.plain(options),
    'inputs': fields.plain(model.inputs),
  }
  if path.suffix.lower() == '.npz' and len(json.dumps(notes)) > files.NPZ_NOTES:
    notes['inputs']['class_names'] = []  # of tens of thousands of classes
  files.write(path, to_published(chosen, leaves), notes)
  call = ''
  if type(options) is ViTOptions and not options.conv_stem:
    call = chosen.call(options, model.inputs, model.num_classes)
  return f'written to {path} ({chosen.words})' + (f'; there it is {call}' if call else '')


def traits(options: Any) -> dict[str, Any]:
  return {name: getattr(options, name) for name in TRAITS if hasattr(options, name)}


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
