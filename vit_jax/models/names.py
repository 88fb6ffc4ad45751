"""Names of models: BASE, BASE/PATCH or BASE/PATCH-VARIANT, and what an entry of the table holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from vit_jax.errors import UserError, nearest

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Inputs(NamedTuple):
  """What published weights of a model expect of an image."""

  size: int = 224  # pixels, height and width
  mean: tuple[float, ...] = HALF  # of pixels in [0, 1]
  std: tuple[float, ...] = HALF
  crop: float = 0.875  # side of the central crop over the shorter side after resizing


class Entry(NamedTuple):
  """A line of `MODELS`.

  `build` takes (patch, variant, num_classes, options), with patch 0 where the name has none, and
  checks the options.
  """

  build: Callable[[int, str, int, dict[str, Any]], nn.Module]
  patches: tuple[int, ...] = (16,)  # usual ones, for suggestions; () if the name takes none
  variants: tuple[str, ...] = ()
  inputs: Inputs = Inputs()

  def names(self, base: str) -> Iterable[str]:
    """The usual names of this entry."""
    for patch in self.patches or ('',):
      for variant in ('', *self.variants):
        yield base + (f'/{patch}' if patch else '') + (f'-{variant}' if variant else '')


def parse(name: str, models: Mapping[str, Entry]) -> tuple[str, int, str]:
  """(base, patch or 0, variant or '') of a name.

  Raises:
    UserError: there is no such model; names the nearest ones.
  """
  base, _, rest = name.partition('/')
  patch, _, variant = rest.partition('-')
  entry = models.get(base)
  if entry is None:
    known = [full for base, entry in models.items() for full in entry.names(base)]
    other_case = [full for full in known if full.lower() == name.lower()]
    raise UserError(f'model {name!r} is unknown; {nearest(name, other_case or known)}')
  if entry.patches and (not patch.isdecimal() or int(patch) < 1):
    raise UserError(
      f'model {name!r} lacks a patch size in pixels; {base}/{entry.patches[0]} would have one'
    )
  if variant not in ('', *entry.variants) or rest and not entry.patches:
    raise UserError(f'model {name!r} is unknown; {nearest(name, list(entry.names(base)))}')
  return base, int(patch or 0), variant
