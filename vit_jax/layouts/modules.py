"""Pairs for the leaves of a module: its kernel or scale, and its bias.

`leaves` is what follows their name of the module: PyTorch's by default.
"""

from vit_jax.layouts.layout import Names, Pair, as_tuple

TORCH = '.weight', '.bias'


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


def conv(ours: str, theirs: str) -> list[Pair]:
  """A convolution of PyTorch without a bias."""
  return [Pair(f'{ours}/kernel', 'hwCD', f'{theirs}.weight', 'DChw')]


def batch_norm(ours: str, theirs: str) -> list[Pair]:
  """PyTorch's, running statistics too."""
  return [
    *norm(ours, theirs),
    Pair(f'batch_stats/{ours}/mean', 'D', f'{theirs}.running_mean', 'D'),
    Pair(f'batch_stats/{ours}/var', 'D', f'{theirs}.running_var', 'D'),
  ]
