"""A font file of rectangles."""

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen


def write_font(path, shapes):
  """A font of rectangles: character -> (width, height); None: a blank."""
  names = {ord(character): f'u{ord(character)}' for character in shapes}
  glyphs = {}
  for character, size in {'': None, **shapes}.items():
    pen = TTGlyphPen(None)
    if size:
      width, height = size
      pen.moveTo((0, 0))
      for corner in ((0, height), (width, height), (width, 0)):
        pen.lineTo(corner)
      pen.closePath()
    glyphs[names[ord(character)] if character else '.notdef'] = pen.glyph()
  builder = FontBuilder(1000)
  builder.setupGlyphOrder(list(glyphs))
  builder.setupCharacterMap(names)
  builder.setupGlyf(glyphs)
  builder.setupHorizontalMetrics({name: (1000, 0) for name in glyphs})
  builder.setupHorizontalHeader(ascent=800, descent=-200)
  builder.setupNameTable({'familyName': path.stem, 'styleName': 'Regular'})
  builder.setupOS2()
  builder.setupPost()
  builder.save(path)
