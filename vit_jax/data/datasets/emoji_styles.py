"""emoji_styles: the kind of thing, in four styles of drawing. 6,268 emoji of 64 x 64 pixels.

Nine groups of Unicode's emoji, drawn in four open styles: the same smiley by Noto, Twemoji, Fluent
and EmojiOne, as vector drawings in npm packages (docs/datasets.md says how to install them).

Which emoji: those with a name in the groups of Noto, Twemoji or Fluent (EmojiOne has other
groups), without the variants by skin tone.

Splits: train (5,018) and test (1,250), disjoint by emoji: the side is a hash of its name. Some have
two names, and some drawings stand for several emoji (families, flags): images that share a
code point or the drawing with a test image are left out of train (46 images).

Features: `image`, `label` (the group), `style` (0-3, in the order of metadata['styles']) and
`emoji` (its name).
"""

import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds

from vit_jax.data.datasets import packages
from vit_jax.errors import UserError

STYLES = ('noto', 'twemoji', 'fluent-emoji-flat', 'emojione')
NPM = {
  '@iconify-json/noto': '1.2.9', '@iconify-json/twemoji': '1.2.5',
  '@iconify-json/fluent-emoji-flat': '1.2.6', '@iconify-json/emojione': '1.2.3',
}  # fmt: skip
GROUPED = STYLES[:3]  # the styles whose groups are Unicode's; the first that has a name decides
GROUPS = (
  'Activities', 'Animals & Nature', 'Flags', 'Food & Drink', 'Objects', 'People & Body',
  'Smileys & Emotion', 'Symbols', 'Travel & Places',
)  # fmt: skip
SIZE = 64  # pixels
TONE = re.compile(r'-(medium-dark|medium-light|dark|light|medium)$')


class Drawing(NamedTuple):
  """One emoji in one style."""

  style: int
  name: str
  group: str
  code_points: frozenset[str]  # the sequences that it stands for
  svg: str


class EmojiStyles(packages.PackageBuilder, skip_registration=True):
  VERSION = tfds.core.Version('1.1.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return self.describe(
      (SIZE, SIZE, 3),
      GROUPS,
      columns={'style': np.int32, 'emoji': tfds.features.Text()},
      metadata={'group': 'emoji', 'styles': list(STYLES), 'npm': NPM},
      description='Emoji of nine groups in the drawings of four designers.',
      homepage='https://github.com/iconify/icon-sets',
      license='Noto: Apache-2.0; Twemoji, EmojiOne: CC-BY-4.0; Fluent: MIT',
    )

  def _split_generators(self, dl_manager):
    folders = packages.npm('emoji_styles', NPM, Path(self.data_dir_root))
    if not importlib.util.find_spec('resvg_py'):
      command = "pip install 'vit-jax[offline]'"
      raise packages.missing('emoji_styles', 'package resvg-py', command)
    drawings = read_drawings(list(folders.values()))
    test = [d for d in drawings if packages.side(d.name) == 'test']
    shown = {code for d in test for code in d.code_points} | {d.svg for d in test}
    train = [d for d in drawings if not shown & {*d.code_points, d.svg}]
    return {'train': self._examples('train', train), 'test': self._examples('test', test)}

  def _examples(self, split, drawings):
    for drawing in self.progress(drawings, split, 'emoji'):
      example = {
        'image': packages.png(raster(drawing.svg)),
        'label': drawing.group,
        'style': drawing.style,
        'emoji': drawing.name,
      }
      yield f'{STYLES[drawing.style]}/{drawing.name}', example


def read_drawings(folders: list[Path]) -> list[Drawing]:
  """All drawings of the four packages, in the order of STYLES and of their files."""
  of_style = dict(zip(STYLES, folders, strict=True))
  group_of: dict[str, str] = {}
  for style in GROUPED:
    for group, names in packages.read_json(of_style[style] / 'metadata.json')['categories'].items():
      for name in names:
        group_of.setdefault(name, group)
  icons = {style: packages.read_json(folder / 'icons.json') for style, folder in of_style.items()}
  fluent = icons['fluent-emoji-flat']['icons']
  drawings = []
  for index, style in enumerate(STYLES):
    code_points: dict[str, set[str]] = {}
    for sequence, name in packages.read_json(of_style[style] / 'chars.json').items():
      code_points.setdefault(name, set()).add(re.sub('-fe0f', '', sequence))
    for name, icon in icons[style]['icons'].items():
      # Fluent's variants by tone end in just the tone, but so do other names.
      base = TONE.sub('', name)
      toned = 'skin-tone' in name or (base != name and base in fluent)
      if icon.get('hidden') or toned or name not in group_of:
        continue
      points, svg = frozenset(code_points.get(name, ())), _svg(icon, icons[style])
      drawings.append(Drawing(index, name, group_of[name], points, svg))
  return drawings


def _svg(icon: dict, package: dict) -> str:
  """A drawing in a square of SIZE pixels; the package has defaults for all its icons."""
  width, height = (icon.get(key, package.get(key, 16)) for key in ('width', 'height'))
  box = f'{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}'
  return (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    f'viewBox="{box}" width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'
  )


def raster(svg: str) -> np.ndarray:
  """A drawing on white, uint8 [H, W, BGR]; raises UserError if it cannot be drawn."""
  import resvg_py  # an optional package

  try:
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, background='white', skip_system_fonts=True))
  except ValueError as error:
    raise UserError(
      f"a drawing of data set 'emoji_styles' is damaged: {error}; reinstall its npm packages"
    ) from error
  image_HWC: Any = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
  return image_HWC
