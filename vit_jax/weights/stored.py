"""Weights as a source holds them, and how they become the variables of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

import numpy as np

from vit_jax import fields, layouts, models
from vit_jax.data import imagenet
from vit_jax.errors import first_few
from vit_jax.layouts import files, huggingface, layout, positions, registry
from vit_jax.layouts.adapt import adapt
from vit_jax.layouts.layout import Layout
from vit_jax.layouts.published import Published
from vit_jax.models import Inputs
from vit_jax.models.inputs import at
from vit_jax.models.names import find
from vit_jax.trees import flatten_variables, unflatten_variables


@dataclass(frozen=True)
class Stored:
  """Weights of one source, and what it says of their model.

  Attributes:
    where: names the source in messages.
    leaves: in float32, by their published names, or by ours if there is no layout.
    layout: None for a run.
    name: of the model; '' if the source does not say.
    options: keys of that model's options.
    inputs: the images that the weights expect; None if the source does not say.
    table_size: (H, W) of the images that the positions are for; likewise.
    remarks: more to say about them.
    known: the published checkpoint that they are named after.
    loss: that they were trained with, which says how logits become probabilities.
  """

  where: str
  leaves: Mapping[str, np.ndarray]
  layout: Layout | None = None
  name: str = ''
  options: Mapping[str, Any] = field(default_factory=dict)
  inputs: Inputs | None = None
  table_size: tuple[int, int] | None = None
  remarks: tuple[str, ...] = ()
  known: Published | None = None
  loss: str = 'softmax'

  @property
  def num_classes(self) -> int:
    """Of the head; 0 if there is none."""
    if self.layout is None:
      return len(self.leaves.get('head/bias', ()))
    return self.size('head/kernel', 'K')

  @property
  def traits(self) -> dict[str, Any]:
    """Options that hold whatever the name of the model; see `layouts.TRAITS`."""
    known = {name: value for name, value in self.options.items() if name in layouts.TRAITS}
    return {**(self.layout.traits if self.layout else {}), **known}

  def has(self, our_name: str) -> bool:
    """Whether a published leaf of this name of ours is there."""
    assert self.layout is not None
    return layout.has(self.layout, self.leaves, our_name)

  def size(self, our_name: str, letter: str) -> int:
    """Size of an axis of one of our leaves; 0 if it is absent."""
    assert self.layout is not None
    return layout.size(self.layout, self.leaves, our_name, letter, self.where)


def published(arrays: Mapping[str, np.ndarray], where: str) -> Stored:
  """Weights of a file, in the layout that its names tell.

  Raises:
    UserError: no layout has these names, or a number is not finite.
  """
  arrays, wrapped = _unwrapped(arrays)
  word, prefix = registry.recognize(arrays, where)
  known = registry.LAYOUTS[word]
  inside = {
    name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)
  }
  ignored = [name for name in inside if layout.is_ignored(known, name)]
  leaves = {name: array for name, array in inside.items() if name not in ignored}
  remarks = [f'{first_few(ignored)} ignored'] if ignored else []
  if known.wide_classifier:
    leaves, remark = huggingface.cut_classifier(leaves)
    remarks += [remark] * bool(remark)
  remarks += [f'{wrapped} taken off their names'] * bool(wrapped)
  if len(inside) < len(arrays):
    remarks.append(f'{len(arrays) - len(inside)} leaves outside {prefix} ignored')
  where = f'{where} ({known.words})'
  return Stored(where, files.floats(leaves, where), known, remarks=tuple(remarks))


# What wrappers of torch put before the names of all leaves: DataParallel, compile, Lightning.
_WRAPPERS = ('module.', '_orig_mod.', 'model.')


def _unwrapped(arrays: Mapping[str, np.ndarray]) -> tuple[Mapping[str, np.ndarray], str]:
  """(the arrays without a prefix that wrappers of their model left, that prefix)."""
  taken = ''
  while arrays:
    prefix = next((w for w in _WRAPPERS if all(name.startswith(w) for name in arrays)), '')
    if not prefix:
      break
    arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    taken += prefix
  return arrays, taken


def build(
  stored: Stored,
  name: str = '',
  num_classes: int | None = None,
  keys: Mapping[str, Any] = {},
  image_size: tuple[int, int] | None = None,
) -> Any:
  """The model of these weights, with the `inputs` that they expect.

  If the source does not say what images those are: as the published checkpoint that it is named
  after, if it holds that model; else as published weights of the model's name.

  Args:
    name: of the model, if the source does not say.
    num_classes: another number of classes than theirs.
    keys: options of the model, overriding the source's; values may be text.
    image_size: (H, W) of images; by default what the weights expect.

  Raises:
    UserError: no name is known, or the model does not have such options.
  """
  named, name = name in ('', stored.name), name or stored.name
  classes = stored.num_classes if num_classes is None else num_classes
  types = get_type_hints(find(name)[0].options)
  found = dict(stored.traits)
  if 'representation' in types and stored.layout is not None:
    found |= _read_off(stored, models.options_of(name))
  found |= stored.options if named else {}
  if classes not in (0, stored.num_classes):
    # New classes are for fine-tuning, where one layer replaces both (arXiv:2010.11929 section 3.2).
    found['representation'] = False
  found = {key: value for key, value in found.items() if key in types}
  found |= {
    key: fields.parse(value, types.get(key)) if isinstance(value, str) else value
    for key, value in keys.items()
  }
  model = models.build(name, classes, models.options_of(name, found))
  inputs, known = stored.inputs, stored.known
  if inputs is not None:
    inputs = at(inputs, image_size or inputs.size)
  elif known is not None and known.model == name:
    inputs = known.at(image_size or _image_size(stored, model.clone(inputs=known.inputs)))
  else:
    inputs = models.inputs_of(name, image_size or _image_size(stored, model))
  names = inputs.class_names if len(inputs.class_names) == classes else ()
  return model.clone(inputs=replace(inputs, class_names=names))


def _read_off(stored: Stored, usual: Any) -> dict[str, Any]:
  """Options of a ViT that follow from the names of its leaves; `usual` are those of its name."""
  assert stored.layout is not None
  there = {
    name: stored.size(name, 'D') > 0
    for name in ('pre_logits/kernel', 'map_head/probe', 'cls', 'pos_embedding')
  }
  found: dict[str, Any] = {'representation': there['pre_logits/kernel']}
  found['pool'] = 'map' if there['map_head/probe'] else 'cls' if there['cls'] else 'mean'
  qkv = 'encoder/blocks/attention/qkv/'
  found['qkv_bias'] = not stored.has(f'{qkv}kernel') or stored.has(f'{qkv}bias')
  if stored.has('encoder/blocks/scale1') and not getattr(usual, 'layerscale', 0):
    found['layerscale'] = 1e-5  # only its presence matters: the scales are in the file
  if not there['pos_embedding'] and 'sincos2d' in stored.layout.positions:
    found['posemb'] = 'sincos2d'
  return found


def _image_size(stored: Stored, model: Any) -> tuple[int, int]:
  """(H, W) of the images that published weights were trained on, by their positions."""
  side, patch = model.inputs.size[0], getattr(model.options, 'patch', 0)
  found = stored.layout and positions.square(stored.size('pos_embedding', 'N'), (1, 0, 2))
  if found or patch:
    tiled = side * (patch or 1)  # by any patches, which may not tile the usual side
    stride = tiled // model.grid((tiled, tiled))[0]
    side = stride * (found[1] if found else max(1, round(side / stride)))
  return side, side


def own_resize(model: Any) -> layout.Resize:
  """How positions of a run of ours are resized: as the code does that trains the family."""
  # facebookresearch/deit main.py; google-research/vision_transformer checkpoint.py
  return 'bicubic' if getattr(model.options, 'init', '') == 'trunc_normal' else 'bilinear'


def fit(
  stored: Stored,
  variables: Mapping[str, Any],
  model: Any,
  class_names: Sequence[str] | None = None,
) -> tuple[dict[str, Any], str]:
  """(variables of a model with these weights, one line that says what was done).

  Args:
    variables: collections of freshly initialized leaves, or of their shapes, which keep their head
      if the classes differ.
    model: its `inputs` have the size of its images.
    class_names: that the head must be for; () if not known, None for whatever it is for.

  Raises:
    UserError: they do not fit; lists names and shapes.
  """
  wanted, remarks = flatten_variables(variables), [*stored.remarks]
  reading, resize = layout.Reading(dict(stored.leaves)), own_resize(model)
  if stored.layout is not None:
    shapes = {name: tuple(leaf.shape) for name, leaf in wanted.items()}
    reading = layout.to_ours(stored.layout, stored.leaves, shapes)
    smooth = stored.layout.antialiased in stored.leaves
    resize = 'bicubic_antialias' if smooth else stored.layout.resize
  if class_names is not None:
    theirs = stored.inputs.class_names if stored.inputs else ()
    leaves, remark = _match_head(reading.ours, wanted, theirs, class_names)
    reading, remarks = reading._replace(ours=leaves), remarks + [remark] * bool(remark)
  old_grid = stored.table_size and model.grid(stored.table_size)
  grid = model.grid(model.inputs.size)
  out, line = adapt(reading, wanted, stored.where, grid, old_grid, resize)
  return unflatten_variables(out), ', '.join([line, *remarks])


def _match_head(
  leaves: dict[str, np.ndarray],
  wanted: Mapping[str, Any],
  theirs: Sequence[str],
  ours: Sequence[str],
) -> tuple[dict[str, np.ndarray], str]:
  """(leaves whose head is for our classes, in our order, or absent; what was done)."""
  heads = [name for name in leaves if name.startswith(('head/', 'head_dist/')) and name in wanted]
  if not heads or leaves[heads[0]].shape[-1] != wanted[heads[0]].shape[-1]:
    return leaves, ''
  if not theirs or len(ours) != len(theirs):
    return leaves, 'the head is kept, for the names of its classes are not known'
  theirs, ours = imagenet.canonical(theirs), imagenet.canonical(ours)
  if theirs == ours:
    return leaves, ''
  if set(theirs) == set(ours) and len(set(theirs)) == len(theirs):
    order = [theirs.index(name) for name in ours]
    moved = {name: leaves[name][..., order] for name in heads}
    return leaves | moved, 'the head is put into the order of these classes'
  few = [', '.join(names[:3]) + (', ...' if len(names) > 3 else '') for names in (theirs, ours)]
  others = {name: leaf for name, leaf in leaves.items() if name not in heads}
  return others, f'the head is fresh, for its classes are {few[0]} and not {few[1]}'
