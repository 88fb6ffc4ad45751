"""A layout: a table between names of published weights and ours, used in both directions.

Our names are paths in a model's tree, as in 'encoder/blocks/mlp/up/kernel', with 'batch_stats/' in
front for BatchNorm's running statistics. Each `Pair` names a leaf on both sides and its axes, one
letter each; reordering and reshaping follow from the letters and are exact both ways:

    Pair('head/kernel', 'DK', 'head.weight', 'KD')

Brackets merge axes, on either side. A number is an axis of that size:

    Pair('embedding/kernel', 'hwCD', 'patch_embed.proj.weight', 'DChw')
    Pair('cls', '11D', 'cls_token', '11D')
    Pair('map_head/attention/kv/kernel', 'D2AE', 'attn_pool.kv.weight', '(2AE)D')

An axis of one side only is spread over several leaves on the other: the layers L by {L} in the
name, counted from 0; any other axis by a tuple of names.

    Pair('encoder/blocks/norm1/scale', 'LD', 'blocks.{L}.norm1.weight', 'D')
    Pair('encoder/blocks/attention/qkv/kernel', 'LD3AE',
        ('h.{L}.query.weight', 'h.{L}.key.weight', 'h.{L}.value.weight'), '(AE)D')
    Pair(('encoder/blocks/mlp/gate/kernel', 'encoder/blocks/mlp/up/kernel'), 'LDF',
        'blocks.{L}.mlp.fc1.weight', '(2F)D')

Sizes of axes merged on both sides come from a pair above, of axes merged on one side from the
model. The others may differ from it (another head, other positions), which `adapt` decides on. Axes
of size 1 are not compared. If one of our leaves has several pairs, the first whose names are there
is read, and the first is written. A table may have more pairs than a model has leaves. Add a layout
to `registry.LAYOUTS`.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from vit_jax.errors import UserError
from vit_jax.models.inputs import Inputs
from vit_jax.models.options import ViTOptions

Flat = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]
Names = str | tuple[str, ...]
Resize = Literal['bilinear', 'bicubic', 'bicubic_antialias']


class Pair(NamedTuple):
  ours: Names
  our_axes: str
  theirs: Names
  their_axes: str

  @property
  def our_names(self) -> tuple[str, ...]:
    return as_tuple(self.ours)

  def their_names(self, layers: int) -> list[str]:
    """Published names in the order of their stacking: for each layer, for each of the tuple."""
    names = as_tuple(self.theirs)
    if '{L}' not in names[0]:
      return list(names)
    return [name.replace('{L}', str(layer)) for layer in range(layers) for name in names]


class Layout(NamedTuple):
  """A table and what goes with it.

  Attributes:
    words: what it is, for messages.
    prefixes: possible prefixes of all names; the first is written.
    ignored: patterns of published names that mean nothing here, such as counters.
    resize: how its library resizes positions; see `positions.resize`.
    antialiased: a published name that means 'bicubic_antialias' if present.
    traits: options of a model, beyond its name, that all models of its library have.
    pools, positions: the kinds that models of its library may have, as `ViTOptions` names them.
    slots: whether its position tables must have slots for class and distillation tokens: as the
      model has them, always, or only in models without registers.
    call: (options of a plain ViT, the images it takes, number of classes) -> code that builds the
      same model in its library; '' if nothing does.
    config: likewise of any model -> the config.json of a folder that its library loads; {} if it
      has no such model.
    needs: our leaves that each of its models has.
    complete: adds to leaves about to be written what its library wants besides.
    wide_classifier: its classifier also sees the mean of the patches; see
      `huggingface.cut_classifier`.
  """

  words: str
  pairs: tuple[Pair, ...]
  prefixes: tuple[str, ...] = ('',)
  ignored: tuple[str, ...] = ()
  resize: Resize = 'bicubic_antialias'
  antialiased: str = ''
  traits: Mapping[str, Any] = {}
  pools: tuple[str, ...] = ('cls',)
  positions: tuple[str, ...] = ('learned',)
  slots: Literal['', 'always', 'without registers'] = ''
  call: Callable[[ViTOptions, Inputs, int], str] = lambda *_: ''
  config: Callable[[Any, Inputs, int], dict[str, Any]] = lambda *_: {}
  needs: tuple[str, ...] = ()
  complete: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda leaves: leaves
  wide_classifier: bool = False


class Reading(NamedTuple):
  """Leaves that were read.

  Attributes:
    ours: leaves by our names.
    faults: what is wrong with the others, as sentences.
    left: names that no leaf of ours was made from -> our name, '' if there is none.
  """

  ours: dict[str, np.ndarray]
  faults: Sequence[str] = ()
  left: Mapping[str, str] = {}


def to_ours(layout: Layout, published: Flat, wanted: Shapes) -> Reading:
  """The leaves of `wanted` from published ones (prefix removed)."""
  ours: dict[str, np.ndarray] = {}
  faults, taken, above = [], set(), {}
  for pair in layout.pairs:
    if not all(name in wanted and name not in ours for name in pair.our_names):
      continue
    above |= (sizes := _sizes(pair, [wanted[name] for name in pair.our_names], above))
    names = pair.their_names(sizes.get('L', 0))
    missing = [name for name in names if name not in published]
    if len(missing) == len(names):
      continue
    taken.update(names)
    shapes = {name: published[name].shape for name in names if name in published}
    first = next(iter(shapes))
    faults += [f'{name} is missing' for name in missing]
    faults += [
      f'{name} is {shape} but {first} is {shapes[first]}'
      for name, shape in shapes.items()
      if shape != shapes[first]
    ]
    sizes |= _free_sizes(pair.their_axes, shapes[first])
    right = _shape(pair.their_axes, sizes)
    if _squeezed(right) != _squeezed(shapes[first]):
      faults.append(f'{first} is {shapes[first]}, not {right}')
    elif not missing and set(shapes.values()) == {shapes[first]}:
      arrays = [published[name].reshape(right) for name in names]
      leaves = _convert(arrays, pair.their_axes, pair.our_axes, sizes)
      ours |= dict(zip(pair.our_names, leaves, strict=True))
  named = _named(layout)
  left = [name for name in published if name not in taken and not is_ignored(layout, name)]
  return Reading(ours, faults, {name: named(name) for name in left})


def to_published(layout: Layout, ours: Flat) -> dict[str, np.ndarray]:
  """Published leaves, with the layout's first prefix, of all of ours that it has names for."""
  out: dict[str, np.ndarray] = {}
  done: set[str] = set()
  above: dict[str, int] = {}
  for pair in layout.pairs:
    if not all(name in ours and name not in done for name in pair.our_names):
      continue
    done.update(pair.our_names)
    arrays = [ours[name] for name in pair.our_names]
    above |= (sizes := _sizes(pair, [array.shape for array in arrays], above))
    leaves = _convert(arrays, pair.our_axes, pair.their_axes, sizes)
    names = pair.their_names(sizes.get('L', 0))
    out |= {layout.prefixes[0] + name: leaf for name, leaf in zip(names, leaves, strict=True)}
  return out


def is_ignored(layout: Layout, name: str) -> bool:
  return any(re.fullmatch(pattern, name) for pattern in layout.ignored)


def size(layout: Layout, published: Flat, our_name: str, letter: str, where: str) -> int:
  """Size of an axis of one of our leaves, from published shapes; 0 if it is absent.

  Raises:
    UserError: the published leaf has another number of axes.
  """
  for pair in layout.pairs:
    name = pair.their_names(1)[0]
    if our_name in pair.our_names and name in published:
      shape, rank = published[name].shape, len(list(_groups(pair.their_axes)))
      if len(shape) != rank:
        raise UserError(
          f'{where} is of another model: {name} is {shape}, but should have {rank} axes'
        )
      return _free_sizes(pair.their_axes, shape)[letter]
  return 0


def has(layout: Layout, published: Flat, our_name: str) -> bool:
  """Whether one of our leaves is there."""
  return any(
    pair.their_names(1)[0] in published for pair in layout.pairs if our_name in pair.our_names
  )


def unnamed(layout: Layout, our_names: Collection[str]) -> list[str]:
  """Our leaves that the layout has no name for; some have one only beside others."""
  whole = [pair.our_names for pair in layout.pairs if {*pair.our_names} <= {*our_names}]
  known = {name for names in whole for name in names}
  return [name for name in our_names if name not in known]


def count_known(layout: Layout, names: set[str]) -> int:
  """How many of these published names (prefix removed) the layout has pairs for."""
  named = _named(layout)
  return sum(bool(named(name)) for name in names)


def _named(layout: Layout) -> Callable[[str], str]:
  """A function from a published name to the first of ours in its pair, or ''."""
  plain, by_layer = {}, []
  for pair in layout.pairs:
    for name in as_tuple(pair.theirs):
      if '{L}' in name:
        by_layer.append((re.escape(name).replace(r'\{L\}', r'\d+'), pair.our_names[0]))
      else:
        plain.setdefault(name, pair.our_names[0])
  pattern = re.compile('|'.join(f'({text})' for text, _ in by_layer) or '(?!)')

  def our_name(name: str) -> str:
    match = pattern.fullmatch(name)
    return by_layer[(match.lastindex or 1) - 1][1] if match else plain.get(name, '')

  return our_name


def _convert(
  arrays: list[np.ndarray], axes: str, new_axes: str, sizes: dict[str, int]
) -> list[np.ndarray]:
  """Leaves with `axes`, stacked over those axes that only `new_axes` has, as leaves with those."""
  stacked, spread = _only(new_axes, axes), _only(axes, new_axes)
  letters = stacked + _letters(axes)
  joined = np.stack(arrays).reshape([sizes[letter] for letter in letters])
  order = spread + _letters(new_axes)
  moved = joined.transpose([letters.index(letter) for letter in order])
  # Not -1, which is no number where an axis is of none.
  count = math.prod(sizes[letter] for letter in spread)
  flat = moved.reshape(count, *_shape(new_axes, sizes))
  return [np.ascontiguousarray(leaf) for leaf in flat]


def _groups(axes: str) -> Iterator[str]:
  """'(3AE)D' -> '3AE', 'D'."""
  for match in re.finditer(r'\((\w+)\)|(\w)', axes):
    yield match[1] or match[2]


def _letters(axes: str) -> list[str]:
  return [letter for letter in axes if letter not in '()1']


def _only(axes: str, other: str) -> list[str]:
  """Letters of `axes` that `other` lacks: the layers first, as in the order of names."""
  only = [letter for letter in _letters(axes) if letter not in other]
  return sorted(only, key=lambda letter: letter != 'L')


def _sizes(pair: Pair, shapes: list[tuple[int, ...]], above: Mapping[str, int]) -> dict[str, int]:
  """Size of each letter, from the shapes of our leaves; of axes merged in ours, from `above`."""
  groups = list(_groups(pair.our_axes))
  if len(set(shapes)) > 1 or len(groups) != len(shapes[0]):
    raise ValueError(f'{pair} does not fit leaves of shapes {shapes}')
  sizes = {letter: above[letter] for group in groups if len(group) > 1 for letter in group}
  sizes |= {group: size for group, size in zip(groups, shapes[0], strict=True) if len(group) == 1}
  if _shape(pair.our_axes, sizes) != shapes[0]:
    raise ValueError(f'{pair} does not fit leaves of shapes {shapes} after axes of {above}')
  return sizes | {
    letter: int(letter) for letter in pair.our_axes + pair.their_axes if letter.isdigit()
  }


def _free_sizes(axes: str, shape: tuple[int, ...]) -> dict[str, int]:
  """Sizes of the letters that are not merged, from a published shape."""
  groups = list(_groups(axes))
  if len(groups) != len(shape):
    return {}
  return {
    group: size
    for group, size in zip(groups, shape, strict=True)
    if len(group) == 1 and group.isalpha()
  }


def _shape(axes: str, sizes: dict[str, int]) -> tuple[int, ...]:
  return tuple(math.prod(sizes[letter] for letter in group) for group in _groups(axes))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
  return tuple(size for size in shape if size != 1)


def as_tuple(names: Names) -> tuple[str, ...]:
  return (names,) if isinstance(names, str) else names
