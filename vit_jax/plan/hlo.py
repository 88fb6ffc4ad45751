"""Reads the text of an optimised HLO module: what one device does in one step.

Loops are counted as often as they run, where XLA's own cost analysis counts their bodies once.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

DTYPE_BYTES = {'pred': 1, 'c64': 8, 'c128': 16, 'token': 0, 'opaque': 0}
_SHAPE = re.compile(r'([a-z]\w*)\[([^\]]*)\](?:\{([^}]*)\})?')
_CALLED = re.compile(
  r'(?:calls|to_apply|body|branch_computations|true_computation|'
  r'false_computation)=\{?((?:%[\w.\-]+(?:, )?)+)'
)
_WITH_OPERATOR = {
  'reduce',
  'all-reduce',
  'all-reduce-start',
  'reduce-scatter',
  'scatter',
  'reduce-window',
  'select-and-scatter',
  'sort',
  'map',
}
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_METADATA = re.compile(r', metadata=\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}')


@dataclass(frozen=True)
class Array:
  """One array of an instruction's result."""

  dtype: str
  shape: tuple[int, ...]
  near: bool  # in the fast memory beside the units (a TPU's VMEM), not in HBM

  @property
  def bytes(self) -> int:
    bits = re.search(r'\d+', self.dtype)
    size = (
      DTYPE_BYTES.get(self.dtype) if self.dtype in DTYPE_BYTES else int(bits[0]) / 8 if bits else 0
    )
    if self.dtype.startswith('f8'):  # f8e4m3fn
      size = 1
    return math.ceil(math.prod(self.shape) * (size or 0))


@dataclass(frozen=True)
class Instruction:
  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  arguments: str  # what stands between the brackets: operands, or a constant's value
  attributes: str
  root: bool

  @property
  def arrays(self) -> tuple[Array, ...]:
    return arrays_of(self.shape)

  @property
  def called(self) -> list[str]:
    """Computations that it runs; a loop's condition and a reduction's operator apart."""
    if self.opcode in _WITH_OPERATOR or self.opcode.endswith(('-done', '-update')):
      return []
    return [
      name.strip().lstrip('%')
      for found in _CALLED.findall(self.attributes)
      for name in found.split(',')
    ]

  def attribute(self, pattern: str) -> str:
    """The first group of `pattern` in its attributes, or ''."""
    found = re.search(pattern, self.attributes)
    return found[1] if found else ''


@functools.lru_cache(maxsize=1 << 16)
def arrays_of(shape: str) -> tuple[Array, ...]:
  """The arrays of a shape as HLO writes it: f32[8,128]{1,0:T(8,128)S(1)}, or a tuple of such."""
  return tuple(
    Array(
      dtype,
      tuple(int(size.lstrip('<=')) for size in sizes.split(',') if size),
      bool(re.search(r'S\([1-9]', layout)),
    )
    for dtype, sizes, layout in _SHAPE.findall(re.sub(r'/\*.*?\*/', '', shape))
  )


@dataclass
class Module:
  """Computations by name; `times` says how often each runs in one step."""

  computations: dict[str, dict[str, Instruction]] = field(default_factory=dict)
  entry: str = ''
  fused: set[str] = field(default_factory=set)  # parts of one instruction of another
  times: dict[str, int] = field(default_factory=dict)
  unknown_loops: int = 0  # counted once, for want of a trip count

  def executed(self) -> Iterator[tuple[str, int, Instruction]]:
    """(computation, how often, instruction) of all that runs, inside of fusions too."""
    for name, times in self.times.items():
      for instruction in self.computations[name].values():
        yield name, times, instruction


def strip(text: str) -> str:
  """The module without source locations, which make up half of it."""
  lines = _METADATA.sub('', text).split('\n')
  return '\n'.join(line for line in lines if not line[:1].isdigit()) + '\n'


def parse(text: str) -> Module:
  """Reads a module, and counts how often each computation runs."""
  module, current = Module(), {}
  for line in text.split('\n'):
    if line.startswith((' ', '\t')):
      instruction = _instruction(line)
      if instruction:
        current[instruction.name] = instruction
    elif line.endswith('{') and '->' in line:
      words = line.split()
      name = words[words[0] == 'ENTRY'].lstrip('%')
      current = module.computations[name] = {}
      if words[0] == 'ENTRY':
        module.entry = name
  _count(module)
  return module


def _instruction(line: str) -> Instruction | None:
  head, equals, rest = line.strip().partition(' = ')
  if not equals:
    return None
  end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
  shape, rest = rest[:end], rest[end:].lstrip()
  start = rest.index('(')
  close = _closing(rest, start)
  arguments = rest[start + 1 : close]
  return Instruction(
    head.split()[-1].lstrip('%'),
    shape,
    rest[:start],
    tuple(re.findall(r'%([\w.\-]+)', arguments)),
    arguments,
    rest[close + 1 :],
    head.startswith('ROOT'),
  )


def _closing(text: str, start: int) -> int:
  """Where the bracket that opens at `start` closes."""
  depth = 0
  for found in re.compile(r'[()]').finditer(text, start):
    depth += 1 if found[0] == '(' else -1
    if not depth:
      return found.start()
  raise ValueError(f'unbalanced brackets in HLO: {text[:80]}')


def _count(module: Module) -> None:
  """Fills `times` and `fused`, from the entry down."""
  todo = [(module.entry, 1, False)]
  while todo:
    name, times, fused = todo.pop()
    module.times[name] = module.times.get(name, 0) + times
    if fused:
      module.fused.add(name)
    for instruction in module.computations[name].values():
      inner = times
      if instruction.opcode == 'while':
        trips = trip_count(module, name, instruction)
        module.unknown_loops += trips is None
        inner *= 1 if trips is None else trips
      inside = fused or instruction.opcode == 'fusion' or instruction.opcode.endswith('-start')
      todo += [
        (called, inner, inside) for called in instruction.called if called in module.computations
      ]


def trip_count(module: Module, where: str, loop: Instruction) -> int | None:
  """How often a while loop of computation `where` runs; None if that cannot be read.

  XLA writes it down for most loops. The others that it makes compare a counter, the tuple's
  element i, with a constant: `while (i < 8) i += 1`.
  """
  known = _TRIPS.search(loop.attributes)
  if known:
    return int(known[1])
  condition = module.computations[loop.attribute(r'condition=%?([\w.\-]+)')]
  body = module.computations[loop.attribute(r'body=%?([\w.\-]+)')]
  root = next(i for i in condition.values() if i.root)
  fused = {}
  if root.opcode == 'fusion':
    fused = module.computations[root.called[0]]
    outer, root = root, next(i for i in fused.values() if i.root)
    parameters = {
      i.name: outer.operands[int(i.arguments)] for i in fused.values() if i.opcode == 'parameter'
    }
  else:
    parameters = {}
  if root.opcode != 'compare':
    return None
  sides = (
    [
      fused.get(name) if name not in parameters else condition.get(parameters[name])
      for name in root.operands
    ]
    if fused
    else [condition.get(n) for n in root.operands]
  )
  limit = next((_constant(side) for side in sides if side and _constant(side) is not None), None)
  index = next(
    (
      side.attribute(r'index=(\d+)')
      for side in sides
      if side and side.opcode == 'get-tuple-element'
    ),
    '',
  )
  direction = root.attribute(r'direction=(\w+)')
  if limit is None or not index or direction not in ('LT', 'LE', 'NE'):
    return None
  start = _initial(module.computations[where], loop, int(index))
  step = _step(module, body, int(index))
  if start is None or not step:
    return None
  return max(0, math.ceil((limit + (direction == 'LE') - start) / step))


def _constant(instruction: Instruction | None) -> int | None:
  if instruction is None or instruction.opcode != 'constant':
    return None
  return int(instruction.arguments) if re.fullmatch(r'-?\d+', instruction.arguments) else None


def _initial(computation: Mapping[str, Instruction], loop: Instruction, index: int) -> int | None:
  """The constant that element `index` of a loop's tuple begins with."""
  source = computation.get(loop.operands[0])
  source = computation.get(source.operands[index]) if source and source.opcode == 'tuple' else None
  while source and source.opcode in ('copy', 'bitcast', 'convert', 'copy-done', 'copy-start'):
    source = computation.get(source.operands[0])
  return _constant(source)


def _step(module: Module, body: Mapping[str, Instruction], index: int) -> int | None:
  """What a loop's body adds to element `index` of its tuple."""
  root = next(i for i in body.values() if i.root)
  source = body.get(root.operands[index]) if root.opcode == 'tuple' else None
  while source and source.opcode in ('copy', 'bitcast', 'copy-done', 'copy-start'):
    source = body.get(source.operands[0])
  scope = body
  if source and source.opcode == 'fusion':
    scope = module.computations[source.called[0]]
    source = next(i for i in scope.values() if i.root)
  if source is None or source.opcode != 'add':
    return None
  found = [_constant(scope.get(name)) for name in source.operands]
  if any(value is not None for value in found):
    return next(value for value in found if value is not None)
  constants = [_constant(i) for i in body.values() if i.name in source.operands]
  return next((value for value in constants if value is not None), None)
