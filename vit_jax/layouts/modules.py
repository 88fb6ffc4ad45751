"""Pairs for the leaves of a module: its kernel or scale, and its bias.

`leaves` are the endings of their names: PyTorch's by default.
"""

import itertools
from collections.abc import Callable, Mapping

from vit_jax.layouts.layout import Names, Pair, as_tuple

TORCH = '.weight', '.bias'
STAGES, UNITS = 4, 36  # the most of any published ResNet


def affine(
  ours: Names,
  our_axes: tuple[str, str],
  theirs: Names,
  their_axes: tuple[str, str],
  leaves: tuple[str, str] = TORCH,
  weight: str = 'kernel',
) -> list[Pair]:
  """A dense layer or a convolution; several on one side are one on the other."""

  def named(names: Names, end: str) -> tuple[str, ...]:
    return tuple(name + end for name in as_tuple(names))

  ends = zip((f'/{weight}', '/bias'), our_axes, leaves, their_axes, strict=True)
  return [Pair(named(ours, a), axes, named(theirs, b), others) for a, axes, b, others in ends]


def norm(
  ours: str, theirs: str, L: str = '', leaves: tuple[str, str] = TORCH, their_L: str = ''
) -> list[Pair]:
  """LayerNorm or GroupNorm; `L` is 'L' where ours is stacked over layers."""
  return affine(ours, (f'{L}D', f'{L}D'), theirs, (f'{their_L}D', f'{their_L}D'), leaves, 'scale')


def conv(ours: str, theirs: str, leaf: str = '.weight', axes: str = 'DChw') -> list[Pair]:
  """A convolution without a bias."""
  return [Pair(f'{ours}/kernel', 'hwCD', theirs + leaf, axes)]


def batch_norm(ours: str, theirs: str) -> list[Pair]:
  """PyTorch's, with running statistics."""
  return [
    *norm(ours, theirs),
    Pair(f'batch_stats/{ours}/mean', 'D', f'{theirs}.running_mean', 'D'),
    Pair(f'batch_stats/{ours}/var', 'D', f'{theirs}.running_var', 'D'),
  ]


def resnet(
  ours: str,
  stem: tuple[str, str],
  unit: str,
  parts: Mapping[str, tuple[str, str]],
  conv: Callable[[str, str], list[Pair]] = conv,
  norm: Callable[[str, str], list[Pair]] = norm,
) -> list[Pair]:
  """A ResNet without its ends.

  Args:
    ours: prefix of all of our names.
    stem: their names of its convolution and its normalization; '' for no normalization.
    unit: prefix of their names in a unit; {i} and {j} are its stage and place from 0, {I} and {J}
      from 1.
    parts: likewise, for each convolution in a unit: '1', '2', '3' and '_proj'.
  """
  names = [(f'{ours}stem/conv', f'{ours}stem/norm', '', stem)]
  for i, j in itertools.product(range(STAGES), range(UNITS)):
    our_unit = f'{ours}stage{i + 1}/unit{j + 1}/'
    their_unit = unit.format(i=i, j=j, I=i + 1, J=j + 1)
    names += [
      (f'{our_unit}conv{part}', f'{our_unit}norm{part}', their_unit, parts[part]) for part in parts
    ]
  pairs = []
  for our_conv, our_norm, prefix, (their_conv, their_norm) in names:
    pairs += conv(our_conv, prefix + their_conv)
    pairs += norm(our_norm, prefix + their_norm) if their_norm else []
  return pairs
