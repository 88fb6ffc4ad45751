"""Boxes, skips and repeats as SVG; `draw.py` says what the pictures hold."""

from dataclasses import dataclass
from html import escape
from typing import NamedTuple

WIDE, HIGH, GAP = 156, 27, 15  # of a box; between boxes
LANE = 20  # beside the boxes, for the lines of skips
TOP = 44  # room for the title of a column
COLORS = {
  'norm': '#c9daf8',
  'mix': '#f9cb9c',
  'mlp': '#b6d7a8',
  'conv': '#d5c6ec',
  'scale': '#ffe599',
  'data': '#e3e6ea',
  'head': '#f4b8c4',
}
STYLE = """text{font:13px system-ui,'DejaVu Sans',sans-serif;text-anchor:middle;fill:#1f2430}
.outside{fill:#1f2430}.line{stroke:#5b6472;stroke-width:1.4;fill:none}
.frame{stroke:#5b6472;stroke-width:1;stroke-dasharray:4 3;fill:none}
.head{fill:#5b6472}.plus{stroke:#5b6472;stroke-width:1.4;fill:#fff}
@media(prefers-color-scheme:dark){.outside{fill:#e3e6ea}.line,.frame{stroke:#a8b0bd}
.head{fill:#a8b0bd}}"""


class Box(NamedTuple):
  label: str
  kind: str


@dataclass(frozen=True)
class Skip:
  """A branch, and what stands in the line around it, if not the identity."""

  inside: tuple[Box, ...]
  shortcut: str = ''


@dataclass(frozen=True)
class Repeat:
  """A frame around what is repeated."""

  inside: tuple[Box | Skip, ...]
  times: str


Part = Box | Skip | Repeat


class Column(NamedTuple):
  title: str
  parts: tuple[Part, ...]


class Pen:
  """Draws down one column."""

  def __init__(self, center: float):
    self.x, self.y, self.out = center, float(TOP), []
    self.arrow_from = None  # where the line to the next thing begins

  def box(self, box: Box) -> None:
    self._arrive()
    self.out.append(
      f'<rect x="{self.x - WIDE / 2:g}" y="{self.y:g}" width="{WIDE}" '
      f'height="{HIGH}" rx="5" fill="{COLORS[box.kind]}"/>'
    )
    self.out.append(
      f'<text x="{self.x:g}" y="{self.y + HIGH / 2 + 4.5:g}">{escape(box.label)}</text>'
    )
    self._leave(HIGH)

  def skip(self, skip: Skip) -> None:
    fork = self.y - GAP * 0.65
    lane = self.x + WIDE / 2 + LANE
    if self.arrow_from is None:
      self.arrow_from = self.y - GAP
    for box in skip.inside:
      self.box(box)
    self._arrive()
    radius = 8
    middle = self.y + radius
    self.out.append(
      f'<path class="line" d="M{self.x:g} {fork:g}H{lane:g}V{middle:g}H{self.x + radius + 5:g}"/>'
    )
    self._head(self.x + radius, middle, 'left')
    self.out.append(f'<circle class="plus" cx="{self.x:g}" cy="{middle:g}" r="{radius}"/>')
    self.out.append(
      f'<path class="line" style="stroke:#5b6472" d="M{self.x - 4:g} {middle:g}h8'
      f'M{self.x:g} {middle - 4:g}v8"/>'
    )
    if skip.shortcut:
      y = (fork + middle) / 2
      self.out.append(
        f'<text class="outside" transform="translate({lane + 14:g} {y:g}) rotate(90)'
        f'">{escape(skip.shortcut)}</text>'
      )
    self._leave(2 * radius)

  def repeat(self, repeat: Repeat) -> None:
    top = self.y + 2
    self.y += GAP
    for part in repeat.inside:
      self.part(part)
    left = self.x - WIDE / 2 - 10
    self.out.append(
      f'<rect class="frame" x="{left:g}" y="{top - 4:g}" '
      f'width="{WIDE + 2 * LANE + 22:g}" height="{self.y - top:g}" rx="7"/>'
    )
    self.out.append(
      f'<text class="outside" style="text-anchor:start" x="{left + 4:g}" '
      f'y="{self.y + 9:g}">{escape(repeat.times)}</text>'
    )
    self.y += GAP

  def part(self, part: Part) -> None:
    {Box: self.box, Skip: self.skip, Repeat: self.repeat}[type(part)](part)

  def _arrive(self) -> None:
    """The line from the last thing to where the next one begins."""
    if self.arrow_from is not None:
      self.out.append(f'<path class="line" d="M{self.x:g} {self.arrow_from:g}V{self.y - 5:g}"/>')
      self._head(self.x, self.y, 'down')

  def _leave(self, height: float) -> None:
    self.y += height
    self.arrow_from = self.y
    self.y += GAP

  def _head(self, x: float, y: float, way: str) -> None:
    points = {
      'down': f'{x - 4:g},{y - 7:g} {x + 4:g},{y - 7:g} {x:g},{y:g}',
      'left': f'{x + 7:g},{y - 4:g} {x + 7:g},{y + 4:g} {x:g},{y:g}',
    }[way]
    self.out.append(f'<polygon class="head" points="{points}"/>')


def svg(columns: tuple[Column, ...]) -> str:
  """One picture; columns stand side by side."""
  step = WIDE + 2 * LANE + 50
  body, bottom = [], 0.0
  for i, column in enumerate(columns):
    pen = Pen(14 + WIDE / 2 + i * step)
    pen.out.append(
      f'<text class="outside" style="font-weight:600" x="{pen.x:g}" y="20">'
      f'{escape(column.title)}</text>'
    )
    for part in column.parts:
      pen.part(part)
    body += pen.out
    bottom = max(bottom, pen.y)
  width, height = len(columns) * step - 4, bottom + 2
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
    f'width="{width:g}" height="{height:g}"><style>{STYLE}</style>\n'
    + '\n'.join(body)
    + '\n</svg>\n'
  )
