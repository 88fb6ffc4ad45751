"""Reads the text of an optimized HLO module: what one device does in one step.

Loops are counted as often as they run, where XLA's own cost analysis counts their bodies once.
"""

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
  'reduce', 'all-reduce', 'all-reduce-start', 'reduce-scatter', 'scatter', 'reduce-window',
  'select-and-scatter', 'sort', 'map',
}  # fmt: skip
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_METADATA = re.compile(r', metadata=\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}')


@dataclass(frozen=True)
class Array:
  """One array of an instruction's result."""

  dtype: str
  shape: tuple[int, ...]
  near: bool  # in the fast memory next to the units (a TPU's VMEM), not in HBM

  @property
  def bytes(self) -> int:
    bits = '8' if self.dtype.startswith('f8') else ''.join(re.findall(r'\d+', self.dtype)[:1])
    size = DTYPE_BYTES.get(self.dtype, int(bits or 0) / 8)
    return math.ceil(math.prod(self.shape) * size)


@dataclass(frozen=True)
class Instruction:
  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  arguments: str  # the text in parentheses: operands, or a constant's value
  attributes: str
  root: bool

  @property
  def arrays(self) -> tuple[Array, ...]:
    return arrays_of(self.shape)

  @property
  def called(self) -> list[str]:
    """Computations that it runs, except a loop's condition and a reduction's operator."""
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


def elements(shape: str) -> list[str]:
  """The shapes that a tuple's shape holds; of any other, itself."""
  if not shape.startswith('('):
    return [shape]
  found, depth, start = [], 0, 1
  for place, letter in enumerate(shape):
    depth += (letter in '([{') - (letter in ')]}')
    if (depth == 1 and letter == ',') or depth == 0:
      found.append(shape[start:place].strip())
      start = place + 1
  return found


@dataclass
class Module:
  """Computations by name; `times` says how often each runs in one step."""

  computations: dict[str, dict[str, Instruction]] = field(default_factory=dict)
  entry: str = ''
  fused: set[str] = field(default_factory=set)  # parts of one instruction of another
  times: dict[str, int] = field(default_factory=dict)
  unknown_loops: int = 0  # counted once, as their trip count is unknown

  def executed(self) -> Iterator[tuple[str, int, Instruction]]:
    """(computation, how often, instruction) of everything that runs, inside fusions too."""
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
      if instruction := _instruction(line):
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
  """The index of the bracket that closes the one at `start`."""
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
      trips = 1
      if instruction.opcode == 'while':
        known = trip_count(module, name, instruction)
        module.unknown_loops += known is None
        trips = 1 if known is None else known
      inside = fused or instruction.opcode == 'fusion' or instruction.opcode.endswith('-start')
      called = [name for name in instruction.called if name in module.computations]
      todo += [(name, times * trips, inside) for name in called]


def trip_count(module: Module, where: str, loop: Instruction) -> int | None:
  """How often a while loop of computation `where` runs; None if that cannot be read.

  XLA annotates most loops with it. Its other loops compare a counter, element i of the tuple, with
  a constant: `while (i < 8) i += 1`.
  """
  known = _TRIPS.search(loop.attributes)
  if known:
    return int(known[1])
  condition = module.computations[loop.attribute(r'condition=%?([\w.\-]+)')]
  body = module.computations[loop.attribute(r'body=%?([\w.\-]+)')]
  root, fused, parameters = _root(condition), {}, {}
  if root.opcode == 'fusion':
    fused = module.computations[root.called[0]]
    parameters = {
      i.name: root.operands[int(i.arguments)] for i in fused.values() if i.opcode == 'parameter'
    }
    root = _root(fused)
  if root.opcode != 'compare':
    return None
  found = [{**condition, **fused}.get(parameters.get(name, name)) for name in root.operands]
  sides = [side for side in found if side]
  limit = next((c for side in sides if (c := _constant(side)) is not None), None)
  index = next((i.attribute(r'index=(\d+)') for i in sides if i.opcode == 'get-tuple-element'), '')
  direction = root.attribute(r'direction=(\w+)')
  if limit is None or not index or direction not in ('LT', 'LE', 'NE'):
    return None
  start = _initial(module.computations[where], loop, int(index))
  step = _step(module, body, int(index))
  if start is None or not step:
    return None
  return max(0, math.ceil((limit + (direction == 'LE') - start) / step))


def _root(computation: Mapping[str, Instruction]) -> Instruction:
  return next(i for i in computation.values() if i.root)


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
  root = _root(body)
  source = body.get(root.operands[index]) if root.opcode == 'tuple' else None
  while source and source.opcode in ('copy', 'bitcast', 'copy-done', 'copy-start'):
    source = body.get(source.operands[0])
  scope = body
  if source and source.opcode == 'fusion':
    scope = module.computations[source.called[0]]
    source = _root(scope)
  if source is None or source.opcode != 'add':
    return None
  constants = [_constant(each.get(name)) for each in (scope, body) for name in source.operands]
  return next((value for value in constants if value is not None), None)
