"""What a parameter is to an optimizer, by its path: a matrix, of which layer, in which groups.

Stored parameters are stacked over layers (a leading axis L) and keep heads apart (qkv is
L D 3 A E), so what other code reads off a two-dimensional weight is written here once.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from vit_jax.config import Optim
from vit_jax.errors import UserError, nearest
from vit_jax.parallel.rules import STACKED
from vit_jax.trees import flatten, path_name

# What turns pixels into the first features, and features into logits.
_ENDS = re.compile(r'^(embedding/kernel|(embedding/resnet/)?stem/|conv1/|head)|/stem/')
# In layer-wise decay, what comes after the last block; all else but blocks comes before the first.
_TOP = re.compile(r'^(encoder/norm|norm|head|head_dist|pre_logits|map_head)(/|$)')


class Matrix(NamedTuple):
  """The axes of a kernel: features that come in, and features that go out. Others are batched."""

  rows: tuple[int, ...]
  columns: tuple[int, ...]


def is_stacked(name: str) -> bool:
  """Whether the leading axis is that of the layers."""
  return STACKED.search(name) is not None


def matrix(name: str, ndim: int) -> Matrix | None:
  """How a kernel multiplies; None for another parameter.

  Query, key and value are three matrices, as are the gates of a recurrent cell.
  """
  if not name.endswith('kernel'):
    return None
  first, last = int(is_stacked(name)), ndim - 1
  if re.search(r'(qkv|query|kv)/kernel$', name) and ndim - first == 4:  # D 3 A E
    return Matrix((first,), (last - 1, last))
  if re.search(r'(input|recurrent)_kernel$', name):  # D G H
    return Matrix((first,), (last,))
  return Matrix(tuple(range(first, last)), (last,))


def is_hidden_matrix(name: str) -> bool:
  """Whether Muon is meant for it: a kernel, but not of the first layer or a head.

  So says its author (https://kellerjordan.github.io/posts/muon/).
  """
  return name.endswith('kernel') and not _ENDS.search(name)


def unit_axes(name: str, ndim: int) -> tuple[int, ...]:
  """The axes over which adaptive clipping takes norms: a norm for each unit of a kernel.

  Other parameters have one norm each, in each layer, as in timm's `agc.py`.
  """
  found = matrix(name, ndim)
  return found.rows if found else tuple(range(int(is_stacked(name)), ndim))


def is_head(name: str) -> bool:
  """Whether it makes logits; adaptive clipping leaves these (arXiv:2102.06171 section 4.1)."""
  return name.startswith(('head/', 'head_dist/'))


class Factors(NamedTuple):
  """What `config.optim` does to one parameter."""

  lr: float | np.ndarray  # of a stacked one an array (L, 1, ..), if layers differ
  weight_decay: float  # 0 if it is no matrix
  frozen: bool


def factors(optim: Optim, params: Any) -> dict[str, Factors]:
  """By path, for the whole tree.

  Raises:
    UserError: a group matches no parameter, all are frozen, or layer decay does not fit the model.
  """
  leaves = flatten(params)
  decay = _layer_decay(optim.layer_decay, leaves)
  matching = {
    name: [path for path in leaves if re.search(group.match, path)]
    for name, group in optim.groups.items()
  }
  for name, paths in matching.items():
    if not paths:
      raise UserError(
        f'config.optim.groups.{name}.match is {optim.groups[name].match!r}, which is in no '
        f'parameter path; {_near(optim.groups[name].match, leaves)}'
      )
  found = {}
  for path in leaves:
    groups = [optim.groups[name] for name, paths in matching.items() if path in paths]
    found[path] = Factors(
      math.prod(group.lr for group in groups) * decay[path],
      optim.weight_decay * math.prod(group.weight_decay for group in groups)
      if path.endswith('kernel')
      else 0.0,
      any(group.freeze for group in groups),
    )
  if all(factor.frozen for factor in found.values()):
    raise UserError('config.optim.groups freeze every parameter; leave some to train')
  return found


def layer_of(name: str, depths: dict[str, int]) -> tuple[int, int]:
  """(layer, how many layers) of a parameter; a stack begins at its first.

  As in BEiT's `optim_factory.py`: what comes before the blocks is layer 0, block i layer i + 1, and
  norm and head after the last of n blocks are n + 1. A ResNet below a ViT is in layer 0; CaiT's
  class-attention blocks follow the others.

  Args:
    depths: blocks of each stack, by its path, in order.
  """
  before = 0
  for stack, depth in depths.items():
    if name.startswith(f'{stack}/'):
      return before + 1, depth
    before += depth
  return (before + 1 if _TOP.match(name) else 0), 1


def _layer_decay(decay: float, leaves: dict[str, Any]) -> dict[str, float | np.ndarray]:
  """decay^(n + 1 - layer) by path."""
  if decay == 1:
    return dict.fromkeys(leaves, 1.0)
  depths: dict[str, int] = {}
  for stack in ('encoder/blocks', 'class_blocks'):
    for name, leaf in leaves.items():
      if name.startswith(f'{stack}/'):
        depths[stack] = leaf.shape[0]
  if 'encoder/blocks' not in depths or any(name.startswith('decoder/') for name in leaves):
    raise UserError(
      f'config.optim.layer_decay is {decay:g}, but this model is no Transformer of images, whose '
      'blocks are its layers; set it to 1, and use config.optim.groups'
    )
  found, last = {}, sum(depths.values()) + 1
  for name, leaf in leaves.items():
    first, count = layer_of(name, depths)
    if count == 1 and not is_stacked(name):
      found[name] = decay ** (last - first)
    else:
      layers = np.arange(first, first + count).reshape(-1, *[1] * (leaf.ndim - 1))
      found[name] = (decay ** (last - layers)).astype(np.float32)
  return found


def _near(pattern: str, leaves: dict[str, Any]) -> str:
  """Paths that are like a pattern, or the beginnings of all."""
  words = [word for word in re.split(r'[^A-Za-z0-9_]+', pattern) if word]
  hits = {word: [path for path in leaves if word in path] for word in words}
  best = max(hits.values(), key=len, default=[])
  return nearest(pattern, best[:5] or {path.rpartition('/')[0] or path for path in leaves})


def per_leaf(function: Callable[..., Any], *trees: Any) -> Any:
  """The tree of function(path, leaf, ..)."""
  return jax.tree_util.tree_map_with_path(
    lambda path, *leaves: function(path_name(path), *leaves), *trees
  )
