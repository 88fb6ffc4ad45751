"""Draws the picture of docs/sharding.md: one SVG, plain text, the same bytes every time.

python docs/sharding/draw.py
"""

from html import escape
from pathlib import Path

CELL = 34  # side of a square that stands for a device or a part of an array
COLORS = ('#c9daf8', '#f9cb9c', '#b6d7a8', '#d5c6ec')  # by the part that a device holds
WHITE = '#ffffff'
STYLE = """text{font:13px system-ui,'DejaVu Sans',sans-serif;text-anchor:middle;fill:#1f2430}
.outside{fill:#1f2430}.left{text-anchor:start}.title{font-weight:600}
.edge{stroke:#5b6472;stroke-width:1.2}.frame{stroke:#5b6472;stroke-dasharray:4 3;fill:none}
@media(prefers-color-scheme:dark){.outside{fill:#e3e6ea}.frame{stroke:#a8b0bd}}"""


class Sheet:
  """What has been drawn so far."""

  def __init__(self):
    self.out: list[str] = []

  def text(self, x: float, y: float, text: str, kind: str = 'outside left') -> None:
    self.out.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>')

  def box(self, x: float, y: float, wide: float, high: float, color: str, text: str = '') -> None:
    self.out.append(
      f'<rect class="edge" x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" fill="{color}"/>'
    )
    if text:
      self.text(x + wide / 2, y + high / 2 + 4.5, text, '')

  def frame(self, x: float, y: float, wide: float, high: float) -> None:
    self.out.append(
      f'<rect class="frame" x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="7"/>'
    )


def mesh(sheet: Sheet, x: float, y: float) -> None:
  """Eight devices as replica 2, fsdp 2, tensor 2: a slice each replica."""
  sheet.text(x, y, 'mesh: replica 2, fsdp 2, tensor 2, sequence 1', 'outside left title')
  for replica in range(2):
    left, top = x + replica * 150, y + 36
    sheet.frame(left, top, 132, 118)
    sheet.text(left + 66, top - 6, f'replica {replica}', 'outside')
    sheet.text(left + 82, top + 21, 'tensor', 'outside')
    for fsdp in range(2):
      sheet.text(left + 8, top + 53 + fsdp * (CELL + 4), f'fsdp {fsdp}')
      for tensor in range(2):
        sheet.box(
          left + 52 + tensor * (CELL + 4),
          top + 32 + fsdp * (CELL + 4),
          CELL,
          CELL,
          COLORS[2 * fsdp + tensor],
          str(4 * replica + 2 * fsdp + tensor),
        )
  sheet.text(x, y + 176, 'fast links inside a frame; only replica')
  sheet.text(x, y + 193, 'crosses the slow network between slices')


def parts(
  sheet: Sheet,
  x: float,
  y: float,
  title: str,
  axes: tuple[str, str],
  cells: list[list[str]],
  colors: list[list[str]],
  note: str,
) -> None:
  """An array cut into parts; a cell names the devices that hold it."""
  sheet.text(x, y, title, 'outside left title')
  down, along = axes
  wide, high, top, left = 150 / len(cells[0]), 96 / len(cells), y + 32, x + 24
  sheet.text(left + 75, top - 7, along, 'outside')
  sheet.text(x, top + 52, down)
  for i, row in enumerate(cells):
    for j, text in enumerate(row):
      sheet.box(left + j * wide, top + i * high, wide, high, colors[i][j], text)
  sheet.text(x, top + 114, note)


def svg() -> str:
  sheet, (blue, orange, green, violet) = Sheet(), COLORS
  mesh(sheet, 14, 22)
  sheet.text(14, 252, 'A cell names the devices that hold')
  sheet.text(14, 269, 'it; devices of one color hold the')
  sheet.text(14, 286, 'same parts of the parameters.')
  parts(
    sheet,
    375,
    22,
    'mlp/up/kernel (L, D, F)',
    ('D', 'F'),
    [['0, 4', '1, 5'], ['2, 6', '3, 7']],
    [[blue, orange], [green, violet]],
    'fsdp on D, tensor on F',
  )
  parts(
    sheet,
    605,
    22,
    'head/bias (K)',
    ('', 'K'),
    [['all']],
    [['#e3e6ea']],
    'small: whole on every device',
  )
  parts(
    sheet,
    375,
    198,
    'tokens (B, N, D)',
    ('B', 'N'),
    [['0, 1'], ['2, 3'], ['4, 5'], ['6, 7']],
    [[WHITE]] * 4,
    'batch over replica and fsdp',
  )
  parts(
    sheet,
    605,
    198,
    'tokens with sequence 2',
    ('B', 'N'),
    [[str(2 * i), str(2 * i + 1)] for i in range(4)],
    [[WHITE] * 2] * 4,
    'replica 2, fsdp 2, sequence 2',
  )
  width, height = 830, 356
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    f'width="{width}" height="{height}"><style>{STYLE}</style>\n'
    + '\n'.join(sheet.out)
    + '\n</svg>\n'
  )


if __name__ == '__main__':
  Path(__file__).with_name('mesh.svg').write_text(svg(), 'utf-8')
