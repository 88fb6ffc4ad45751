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
from vit_jax.trees import flatten_variables

# What is written where no layout is asked for: the first that can hold the model.
_BY_SUFFIX = {
  '.npz': ('google', 'big_vision', 'timm', 'hf'),
  '.safetensors': ('timm', 'hf', 'google', 'big_vision'),
}
# Options in which homes of the same weights differ: numbers depend on them, shapes do not.
TRAITS = ('exact_gelu', 'weight_epsilon')


def write(
  path: Path | str,
  model: Any,
  variables: Mapping[str, Any],
  family: str | None = None,
  notes: Mapping[str, Any] | None = None,
) -> str:
  """Writes a file of weights, whole or not at all; returns a sentence.

  The file also says what model it is for, and what images that takes: `weights.open` needs no
  other arguments. The sentence has the code that builds the model in timm or transformers.

  Args:
    path: ends in .npz or .safetensors.
    family: one of `registry.FAMILIES` or a name of `registry.LAYOUTS`; if None, what suits the
      ending and can hold the model.
    notes: more that the file is to say: 'model', the name of the model.

  Raises:
    UserError: the layout cannot hold the model, or the file cannot be written.
  """
  path, leaves, options = Path(path).expanduser(), flatten_variables(variables), model.options
  files.format_of(path)
  families = (family,) if family else _BY_SUFFIX[path.suffix.lower()]
  if isinstance(options, ViTOptions):
    # Positions that are computed can be stored as if learned, where that layout is asked for.
    computed = bool(family) and options.posemb == 'sincos2d'
    kinds = (options.posemb, 'learned') if computed else (options.posemb,)
    chosen = registry.layout_for(families, leaves, options.pool, kinds)
    if computed and 'sincos2d' not in chosen.positions:
      from vit_jax.models.embedding import sincos2d  # here, for flax takes a second

      rows, columns = model.grid(model.inputs.size)
      leaves['pos_embedding'] = sincos2d(rows, columns, options.width)
      options = dataclasses.replace(options, posemb='learned', posemb_class=False)
    leaves, options = _slots(leaves, options, chosen)
  else:
    chosen = registry.layout_for(families, leaves)
  said = {'options': fields.plain(options), 'inputs': fields.plain(model.inputs)}
  notes = {**(notes or {}), **said}
  if path.suffix.lower() == '.npz' and len(json.dumps(notes)) > files.NPZ_NOTES:
    notes['inputs']['class_names'] = []  # of tens of thousands of classes
  files.write(path, to_published(chosen, leaves), notes)
  call = ''
  if type(options) is ViTOptions and not options.conv_stem:
    call = chosen.call(options, model.inputs, model.num_classes)
  return f'written to {path} ({chosen.words})' + (f'; there it is {call}' if call else '')


def traits(options: Any) -> dict[str, Any]:
  """Options in which homes of the same weights differ."""
  return {name: getattr(options, name) for name in TRAITS if hasattr(options, name)}


def _slots(
  leaves: dict[str, Any], options: ViTOptions, chosen: Layout
) -> tuple[dict[str, Any], ViTOptions]:
  """Leaves whose position table has slots for class tokens as that home wants them."""
  count = sum(token in leaves for token in positions.SLOTS)
  if options.posemb == 'learned' and count:
    if chosen.slots == 'always' and not options.posemb_class:
      return positions.make_slots(leaves, count), dataclasses.replace(options, posemb_class=True)
    if chosen.slots == 'without registers' and options.posemb_class and options.registers:
      return positions.fold_slots(leaves, count), dataclasses.replace(options, posemb_class=False)
  return leaves, options
