"""emoji_styles: what kind of thing is it, in whoever's drawing? 6,268 emoji of four styles.

Nine groups of Unicode's emoji, drawn in four open styles: the same smiley by Noto, Twemoji, Fluent
and EmojiOne. Trained on three styles and tested on the fourth (`style`), it asks what transfers.

Getting it (once; 47 MB on disk): pip install 'vit-jax[offline]' and
  npm install --prefix DATA_DIR @iconify-json/noto@1.2.9 @iconify-json/twemoji@1.2.5 \
    @iconify-json/fluent-emoji-flat@1.2.6 @iconify-json/emojione@1.2.3
where DATA_DIR is the data folder (--data_dir); see `packages.npm` for a place without a network.
The packages hold vector drawings, which are rastered at 64 x 64 pixels on white.

Which emoji: those with a name in the groups of Noto, Twemoji or Fluent (EmojiOne's groups are
others), without the variants by skin tone.

Splits: train (5,018) and test (1,250), disjoint by emoji. The crc32 of an emoji's name, modulo 5,
is 0 for the test, so all drawings of a name are on one side. Some emoji have two names, and some
drawings serve several emoji (families, flags): what shares code points or its drawing with an
image of the test is left out of train (46 images). A man and a woman of one profession are two
emoji.

Features: `image`, `label` (the group), `style` (0-3, in the order of metadata['styles']) and
`emoji` (its name).
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from vit_jax.data.datasets import packages
from vit_jax.errors import UserError

STYLES = ('noto', 'twemoji', 'fluent-emoji-flat', 'emojione')
NPM = dict(
  zip(
    (f'@iconify-json/{style}' for style in STYLES),
    ('1.2.9', '1.2.5', '1.2.6', '1.2.3'),
    strict=True,
  )
)
GROUPED = STYLES[:3]  # the styles whose groups are Unicode's; the first that has a name decides
GROUPS = (
  'Activities', 'Animals & Nature', 'Flags', 'Food & Drink', 'Objects', 'People & Body',
  'Smileys & Emotion', 'Symbols', 'Travel & Places',
)  # fmt: skip
SIZE = 64  # pixels
TEST_SHARE = 5  # one name in so many
TONE = re.compile(r'-(medium-dark|medium-light|dark|light|medium)$')


class Drawing(NamedTuple):
  """One emoji in one style."""

  style: int
  name: str
  group: str
  code_points: frozenset[str]  # all the sequences that it stands for
  svg: str


class EmojiStyles(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Needs file_format='array_record' to do without TensorFlow."""

  VERSION = tfds.core.Version('1.0.0')
  url_infos = {}  # nothing is downloaded

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Emoji of nine groups in the drawings of four designers.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format='png'),
          'label': tfds.features.ClassLabel(names=list(GROUPS)),
          'style': np.int32,
          'emoji': tfds.features.Text(),
        }
      ),
      metadata=tfds.core.MetadataDict(styles=list(STYLES), npm=NPM),
      supervised_keys=('image', 'label'),
      homepage='https://github.com/iconify/icon-sets',
      license='Noto: Apache-2.0; Twemoji, EmojiOne: CC-BY-4.0; Fluent: MIT',
    )

  def _split_generators(self, dl_manager):
    folders = packages.npm('emoji_styles', NPM, Path(self.data_dir_root))
    try:
      import resvg_py  # noqa: F401
    except ImportError as error:
      raise UserError(
        "data set 'emoji_styles' is drawn with the package resvg-py, which is not "
        "installed: pip install 'vit-jax[offline]'"
      ) from error
    train, test = split_by_emoji(read_drawings(list(folders.values())))
    return {
      'train': self._generate_examples('train', train),
      'test': self._generate_examples('test', test),
    }

  def _generate_examples(self, split, drawings):
    title = f'preparing emoji_styles, {split}'
    # disable=None: no bar where there is no terminal.
    for drawing in tqdm(drawings, title, unit='emoji', disable=None):
      yield (
        f'{STYLES[drawing.style]}/{drawing.name}',
        {
          'image': packages.png(raster(drawing.svg)),
          'label': drawing.group,
          'style': drawing.style,
          'emoji': drawing.name,
        },
      )


def read_drawings(folders: list[Path]) -> list[Drawing]:
  """All drawings of the four packages, in the order of STYLES and of their files.

  Raises:
    UserError: a file is missing or damaged.
  """
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
      # Fluent's variants by tone end in the tone alone, which other names do as well.
      base = TONE.sub('', name)
      toned = 'skin-tone' in name or (base != name and base in fluent)
      if icon.get('hidden') or toned or name not in group_of:
        continue
      drawings.append(
        Drawing(
          index,
          name,
          group_of[name],
          frozenset(code_points.get(name, ())),
          _svg(icon, icons[style]),
        )
      )
  return drawings


def split_by_emoji(drawings: list[Drawing]) -> tuple[list[Drawing], list[Drawing]]:
  """Train and test, of which no emoji and no drawing is in both."""
  test = [d for d in drawings if zlib.crc32(d.name.encode()) % TEST_SHARE == 0]
  shown = {code for d in test for code in d.code_points} | {d.svg for d in test}
  train = [d for d in drawings if not shown & {*d.code_points, d.svg}]
  return train, test


def _svg(icon: dict, package: dict) -> str:
  """A drawing in a square of SIZE pixels; what an icon does not say, its package says for all."""
  width, height = (icon.get(key, package.get(key, 16)) for key in ('width', 'height'))
  box = f'{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}'
  return (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    f'viewBox="{box}" width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'
  )


def raster(svg: str) -> np.ndarray:
  """A drawing on white, uint8 [H, W, BGR].

  Raises:
    UserError: it cannot be drawn.
  """
  import resvg_py

  try:
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, background='white', skip_system_fonts=True))
  except ValueError as error:
    raise UserError(
      f"a drawing of data set 'emoji_styles' is damaged: {error}; install its npm packages anew"
    ) from error
  image_HWC: Any = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
  return image_HWC
