"""From a file of published weights to the variables of a model, and back to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models import hybrid, names, vit
from vit_jax.trees import flatten, unflatten
from vit_jax.weights import augreg, files, layout, positions, registry
from vit_jax.weights.adapt import Source, adapt
from vit_jax.weights.fetch import fetch
from vit_jax.weights.positions import Grid

STATISTICS = 'batch_stats'
# What is written where no layout is asked for: the first that has names for the whole model.
_FAMILIES_OF = {
  '.npz': ('google', 'big_vision', 'timm', 'hf'),
  '.safetensors': ('timm', 'hf', 'google', 'big_vision'),
}


class Published(NamedTuple):
  """A file of weights: its leaves by published name, without the prefix, in float32.

  `note` says what of the file is no weight of the model, '' where all is. `traits` are options of
  their model, beyond its name, that the file or its layout tells.
  """

  leaves: dict[str, np.ndarray]
  layout: layout.Layout
  where: str
  note: str
  traits: Mapping[str, Any]

  @property
  def num_classes(self) -> int:
    """Of its head; 0 where it has none."""
    return self.size('head/kernel', 'K')

  @property
  def resize(self) -> layout.Resize:
    """How the home of these weights resizes positions."""
    smooth = self.layout.antialiased in self.leaves
    return 'bicubic_antialias' if smooth else self.layout.resize

  def size(self, our_name: str, letter: str) -> int:
    """Of an axis of one of our leaves; 0 where it is not there."""
    return layout.size(self.layout, self.leaves, our_name, letter, self.where)


def read(source: str, cache: Path) -> Published:
  """The weights of a path, an address, or 'augreg:NAME' (see `augreg`).

  Args:
    cache: folder where files from elsewhere stay.

  Raises:
    UserError: the file is missing, damaged, or of no known layout.
  """
  address = source
  if source.startswith(augreg.PREFIX):
    address = augreg.address(source, cache, augreg.DIRECTORY)
  path = fetch(address, cache)
  arrays, where = files.read(path), address.partition('#')[0]
  word, prefix = registry.recognise(arrays, where)
  known = registry.LAYOUTS[word]
  inside = {
    name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)
  }
  ignored = [name for name in inside if layout.is_ignored(known, name)]
  leaves = {name: array for name, array in inside.items() if name not in ignored}
  notes = [f'{", ".join(ignored[:3])}{" ..." if len(ignored) > 3 else ""} ignored'] * bool(ignored)
  if len(inside) < len(arrays):
    notes.append(f'{len(arrays) - len(inside)} leaves outside {prefix} ignored')
  return Published(
    files.floats(leaves, where),
    known,
    f'{where} ({known.words})',
    ', '.join(notes),
    {**known.traits, **files.notes(path)},
  )


def fit(
  published: Published, variables: Mapping[str, Any], grid: Grid
) -> tuple[dict[str, Any], str]:
  """(variables of a model with these weights, one line that says what was done).

  Args:
    variables: collections of freshly initialised leaves, or of their shapes.
    grid: (rows, columns) of the model's positions.

  Raises:
    UserError: they do not fit; lists names and shapes.
  """
  wanted = flat_variables(variables)
  reading = layout.to_ours(
    published.layout, published.leaves, {name: tuple(leaf.shape) for name, leaf in wanted.items()}
  )
  source = Source(
    published.where, resize=published.resize, left=reading.left, faults=tuple(reading.faults)
  )
  out, line = adapt(reading.ours, wanted, source, grid)
  return tree_variables(out), f'{line}, {published.note}' if published.note else line


def build(
  published: Published, name: str, num_classes: int | None = None
) -> tuple[Any, tuple[int, int]]:
  """(the model `name` for these weights, the (H, W) of images they were trained on).

  What the file tells of the model beyond its name is heeded: its traits, `pre_logits`, and of
  big_vision's also how it pools and knows positions.

  Args:
    num_classes: another number of classes than theirs.
  """
  classes = published.num_classes if num_classes is None else num_classes
  model = models.build(name, classes)
  told = {
    option: published.traits[option] for option in traits(model) if option in published.traits
  }
  # Without classes there are features, and those are what their head sees; new classes are for
  # fine-tuning, which puts its head in the place of both layers (arXiv:2010.11929 section 3.2).
  if classes in (0, published.num_classes) and isinstance(model, vit.ViT):
    told['representation'] = published.size('pre_logits/kernel', 'D') > 0
  if published.layout.any_pool and isinstance(model, vit.ViT):
    maps, cls = (published.size(leaf, 'D') for leaf in ('map_head/probe', 'cls'))
    told['pool'] = 'map' if maps else 'cls' if cls else 'mean'
    told['posemb'] = 'learned' if published.size('pos_embedding', 'D') else 'sincos2d'
  model = models.build(name, classes, **told)
  side = models.inputs_of(name).size
  patch = names.parse(name, models.MODELS)[1]
  found = positions.square(published.size('pos_embedding', 'N'), (1, 0, 2))
  if found or patch:
    tiled = side * (patch or 1)  # by any patches, which may not tile the usual side
    stride = tiled // model.grid((tiled, tiled))[0]
    side = stride * (found[1] if found else max(1, round(side / stride)))
  return model, (side, side)


def convert(
  name: str, source: str, target: Path, family: str | None, num_classes: int | None, cache: Path
) -> str:
  """Writes the weights of `source` for the model `name` to `target`; returns one line.

  Args:
    family: one of `registry.FAMILIES` or a name of `registry.LAYOUTS`; if None, what suits the
      ending of `target` and has names for the model.
    num_classes: another number of classes, with a fresh head.

  Raises:
    UserError: the weights do not fit the model, the layout has no names for it, or the file
      cannot be written.
  """
  files.format_of(target)  # before much is read
  if num_classes is not None and num_classes < 0:
    raise UserError(f'--num_classes is {num_classes}; it must be at least 0')
  published = read(source, cache)
  model, (height, width) = build(published, name, num_classes)
  image_1HWC = np.zeros((1, height, width, 3), np.float32)

  def init() -> Any:
    return model.init(jax.random.key(0), image_1HWC, train=False)

  grid = model.grid((height, width))
  variables, line = fit(published, jax.eval_shape(init), grid)
  ours = flat_variables(variables)
  fresh = [name for name, leaf in ours.items() if isinstance(leaf, jax.ShapeDtypeStruct)]
  if fresh:
    pick = jax.jit(lambda: {name: flat_variables(init())[name] for name in fresh})
    ours |= jax.device_get(pick())
  families = (family,) if family else _FAMILIES_OF[target.suffix.lower()]
  plain = not isinstance(model, vit.ViT) or (model.pool, model.posemb) == ('cls', 'learned')
  chosen = registry.layout_for(families, ours, any_pool=not plain)
  if chosen.class_slot and 'pos_embedding' in ours:
    if ours['pos_embedding'].shape[1] == grid[0] * grid[1]:
      ours = positions.make_slots(ours, sum(token in ours for token in positions.SLOTS))
  files.write(target, layout.to_published(chosen, ours), traits(model))
  return f'{line}; written to {target} ({chosen.words})'


def traits(model: Any) -> dict[str, Any]:
  """Options in which homes of the same weights differ: numbers depend on them, shapes do not."""
  if not isinstance(model, vit.ViT):
    return {}
  found: dict[str, Any] = {'exact_gelu': model.exact_gelu}
  if isinstance(model.embedding, hybrid.HybridEmbedding):
    kept = model.embedding.resnet.style == hybrid.HYBRID
    found['weight_epsilon'] = 'std' if kept else 'variance'
  return found


def flat_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Leaves by our names: those of parameters bare, others below the name of their collection."""
  params = flatten(variables['params'])
  return params | flatten({name: tree for name, tree in variables.items() if name != 'params'})


def tree_variables(flat: Mapping[str, Any]) -> dict[str, Any]:
  """The collections of `flat_variables`."""
  inside = {name: leaf for name, leaf in flat.items() if name.startswith(f'{STATISTICS}/')}
  params = {name: leaf for name, leaf in flat.items() if name not in inside}
  return {'params': unflatten(params)} | unflatten(inside)
