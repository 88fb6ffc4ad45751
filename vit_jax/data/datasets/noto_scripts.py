"""noto_scripts: the writing system of a letter. 17,719 glyphs of 132 scripts, 32 x 32 gray pixels.

They are from Debian's fonts-noto-core (docs/datasets.md says how to install it).

Which glyphs: letters and digits that have a script of their own (Unicode's property), of all
scripts with at least 25 in the fonts; per script the 150 with the smallest crc32 of their code
point, in each font that has them: sans and serif, regular and bold. A glyph is drawn white on
black, cropped, and scaled so that its longer side is 28 pixels: its size and its place on the line
reveal nothing.

Splits: train (14,266) and test (3,453), disjoint by code point, in all fonts: the side is a hash of
it. 45 test glyphs, such as a Latin A and a Greek Alpha, are pixel by pixel in train.

Features: `image`, `label` (the ISO 15924 code of the script), `code_point` and `font`.
"""

import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFont

from vit_jax.data.datasets import packages
from vit_jax.errors import UserError, first_few

DEBIAN = Path('/usr/share/fonts/truetype/noto')
SCRIPTS = (
  'Adlm Aghb Ahom Arab Armi Armn Avst Bali Bamu Bass Batk Beng Bhks Brah Cakm Cans Cari Cham '
  'Cher Copt Cprt Cyrl Deva Dogr Dsrt Egyp Elba Ethi Geor Glag Gong Gonm Goth Gran Grek Gujr '
  'Guru Hatr Hebr Hluw Hmng Hmnp Hung Java Kali Khar Khmr Khoj Knda Kthi Lana Laoo Latn Lepc '
  'Limb Lina Linb Lisu Lyci Lydi Mahj Mand Mani Marc Medf Mend Merc Mero Mlym Modi Mong Mroo '
  'Mtei Mult Mymr Narb Nbat Newa Nkoo Nshu Ogam Olck Orkh Orya Osge Osma Palm Pauc Perm Phag '
  'Phli Phlp Phnx Plrd Prti Rohg Runr Sarb Saur Shaw Shrd Sidd Sind Sinh Sogd Sogo Sora Soyo '
  'Sund Sylo Syrc Takr Tale Talu Taml Tang Tavt Telu Tfng Thaa Thai Tibt Tirh Ugar Vaii Wara '
  'Wcho Xpeo Xsux Yezi Yiii Zanb'
).split()
# Fonts of things other than writing systems, and second drawings of a script.
OTHER_FONTS = re.compile(
  'Symbols|Math|Music|Italic|Slanted|SignWriting|Tifinagh[A-Z]|Display|'
  'Duployan|Siyaq|Unjoined|Supplement'
)
CATEGORIES = ('Lo', 'Lu', 'Ll', 'Nd', 'No', 'Nl')  # letters and digits
FEWEST, MOST = 25, 150  # code points per script
SIZE, MARGIN = 32, 2  # pixels


class Glyph(NamedTuple):
  script: str
  code_point: int
  font: Path


class NotoScripts(packages.PackageBuilder, skip_registration=True):
  VERSION = tfds.core.Version('1.1.0')
  directory = DEBIAN

  def _info(self) -> tfds.core.DatasetInfo:
    return self.describe(
      (SIZE, SIZE, 1),
      SCRIPTS,
      columns={'code_point': np.int32, 'font': tfds.features.Text()},
      metadata={'group': 'code_point'},
      description='Glyphs of the Noto fonts with the writing system they belong to.',
      homepage='https://notofonts.github.io',
      license='OFL-1.1',
    )

  def _split_generators(self, dl_manager):
    data_dir = Path(self.data_dir_root)
    folder = packages.debian('noto_scripts', 'fonts-noto-core', self.directory, data_dir)
    glyphs = find_glyphs(folder)
    return {split: self._examples(split, glyphs) for split in ('train', 'test')}

  def _examples(self, split, glyphs):
    mine = [glyph for glyph in glyphs if packages.side(f'x{glyph.code_point}') == split]
    fonts: dict[Path, ImageFont.FreeTypeFont] = {}
    for script, code_point, path in self.progress(mine, split, 'glyph'):
      if path not in fonts:
        # The other layout engine is installed on some machines only, and shapes differently.
        fonts[path] = ImageFont.truetype(path, 2 * SIZE, layout_engine=ImageFont.Layout.BASIC)
      image_HW = draw(fonts[path], chr(code_point))
      if image_HW is not None:
        example = {'label': script, 'code_point': code_point, 'font': path.stem}
        yield f'{code_point:x}/{path.stem}', {'image': packages.png(image_HW), **example}


def find_glyphs(folder: Path) -> list[Glyph]:
  """All glyphs of the data set, by script, font and code point."""
  try:
    from fontTools.ttLib import TTFont, TTLibError  # an optional package
    from fontTools.unicodedata import category, script
  except ImportError as error:
    command = "pip install 'vit-jax[offline]'"
    raise packages.missing('noto_scripts', 'package fonttools', command) from error
  found: dict[str, list[Glyph]] = {name: [] for name in SCRIPTS}
  for path in sorted(folder.glob('Noto*.ttf')):
    if OTHER_FONTS.search(path.name):
      continue
    try:
      with TTFont(path, lazy=True) as font:
        code_points = list(font.getBestCmap() or ())
    except (OSError, TTLibError) as error:
      raise UserError(f'{path} cannot be read as a font: {error}; reinstall its package') from error
    for code_point in code_points:
      name = script(chr(code_point))
      if name in found and category(chr(code_point)) in CATEGORIES:
        found[name].append(Glyph(name, code_point, path))
  missing = [name for name in SCRIPTS if len({g.code_point for g in found[name]}) < FEWEST]
  if missing:
    raise UserError(
      f"the fonts in {folder} lack scripts of data set 'noto_scripts': "
      f'{first_few(missing)}; apt-get install fonts-noto-core'
    )
  kept = set()
  for glyphs in found.values():
    of_script = {glyph.code_point for glyph in glyphs}
    kept.update(sorted(of_script, key=lambda c: (zlib.crc32(b'%d' % c), c))[:MOST])
  return [glyph for name in SCRIPTS for glyph in found[name] if glyph.code_point in kept]


def draw(font: ImageFont.FreeTypeFont, text: str) -> np.ndarray | None:
  """A glyph, uint8 [H, W]: its longer side fills the square up to a margin; None if it is blank."""
  side = 4 * SIZE
  canvas = Image.new('L', (side, side))
  ImageDraw.Draw(canvas).text((side // 2, side // 2), text, font=font, fill=255, anchor='mm')
  box = canvas.getbbox()
  if box is None:
    return None
  left, top, right, bottom = box
  width, height = right - left, bottom - top
  longer, inner = max(width, height), SIZE - 2 * MARGIN
  square = Image.new('L', (longer, longer))
  square.paste(canvas.crop(box), ((longer - width) // 2, (longer - height) // 2))
  small = square.resize((inner, inner), Image.Resampling.LANCZOS)
  return np.pad(np.asarray(small), MARGIN)
