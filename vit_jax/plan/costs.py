"""What one device computes and moves in one step, counted from its optimized HLO."""

import functools
import math
import re
from collections.abc import Mapping

from vit_jax.plan.hlo import Array, Instruction, Module

Scope = Mapping[str, Instruction]

# Instructions that move nothing by themselves.
FREE = {
  'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional', 'call',
  'after-all', 'partition-id', 'replica-id', 'optimization-barrier', 'domain',
}  # fmt: skip
SLICING = {'dynamic-slice', 'slice', 'gather'}
# A GPU's library calls that are matrix products.
GEMMS = ('__cublas$gemm', '__cublas$lt$matmul', '__cublas$lt$matmul$f8', '__onednn$matmul')


def flops(module: Module) -> float:
  """FLOP of all matrix products and convolutions, two for each multiply-accumulate."""
  total = 0.0
  for name, times, instruction in module.executed():
    scope = module.computations[name]
    if instruction.opcode == 'dot':
      total += times * _dot_flops(instruction, scope)
    elif instruction.opcode == 'convolution':
      total += times * _convolution_flops(instruction, scope)
    elif instruction.opcode == 'custom-call':
      target = instruction.attribute(r'custom_call_target="([^"]*)"')
      if target in GEMMS:
        total += times * _gemm_flops(instruction, scope)
  return total


def _shape(name: str, scope: Scope) -> tuple[int, ...]:
  return scope[name].arrays[0].shape


def _numbers(text: str) -> list[int]:
  return [int(number) for number in re.findall(r'\d+', text)]


def _dot_flops(dot: Instruction, scope: Scope) -> float:
  left = _shape(dot.operands[0], scope)
  contracted = _numbers(dot.attribute(r'lhs_contracting_dims=\{([^}]*)\}'))
  return 2.0 * math.prod(dot.arrays[0].shape) * math.prod(left[axis] for axis in contracted)


def _gemm_flops(gemm: Instruction, scope: Scope) -> float:
  left = _shape(gemm.operands[0], scope)
  contracted = _numbers(gemm.attribute(r'"lhs_contracting_dimensions":\[([^\]]*)\]'))
  return 2.0 * math.prod(gemm.arrays[0].shape) * math.prod(left[axis] for axis in contracted)


def _convolution_flops(convolution: Instruction, scope: Scope) -> float:
  """On a TPU every matrix product is a convolution, batched ones with dilated windows.

  Only products with elements that exist count, not those with padding or between dilated ones.
  """
  left, right = (_shape(name, scope) for name in convolution.operands[:2])
  labels = re.match(r'(\w+)_(\w+)->(\w+)', convolution.attribute(r'dim_labels=([\w>\-]+)'))
  assert labels, convolution
  lhs, rhs, out = labels.groups()
  window = dict(re.findall(r'(\w+)=([\dx_\-]+)', convolution.attribute(r'window=\{([^}]*)\}')))
  axes, result = sorted(label for label in lhs if label.isdigit()), convolution.arrays[0].shape

  def sides(key: str, default: str) -> list[int]:
    """Of each axis; of a padding what comes first."""
    texts = window[key].split('x') if key in window else [default] * len(axes)
    return [int(text.split('_')[0]) for text in texts]

  positions = math.prod(
    _valid(left[lhs.index(axis)], right[rhs.index(axis)], result[out.index(axis)], *numbers)
    for axis, *numbers in zip(
      axes,
      sides('stride', '1'),
      sides('pad', '0'),
      sides('lhs_dilate', '1'),
      sides('rhs_dilate', '1'),
      strict=True,
    )
  )
  groups = int(convolution.attribute(r'batch_group_count=(\d+)') or 1)
  return (
    2.0 * positions * left[lhs.index('b')] / groups * right[rhs.index('i')] * right[rhs.index('o')]
  )


@functools.lru_cache(maxsize=1 << 14)
def _valid(
  size: int, kernel: int, out: int, stride: int, pad: int, dilate: int, kernel_dilate: int
) -> int:
  """Pairs of an output and a kernel position that meet an element of the input."""
  count = 0
  for k in range(kernel):
    for o in range(out):
      place = o * stride - pad + k * kernel_dilate
      count += 0 <= place <= (size - 1) * dilate and place % dilate == 0
  return count


def traffic(module: Module) -> float:
  """Bytes between HBM and a device's units: every fusion reads and writes its arrays once.

  Arrays in a TPU's fast memory are free, and so is what stays the same in an update in place.
  """
  total = 0.0
  for name, times, instruction in module.executed():
    if name not in module.fused and not _is_free(instruction):
      total += times * _moved(instruction, module.computations[name], module)
  return total


def _is_free(instruction: Instruction) -> bool:
  return instruction.opcode in FREE or instruction.opcode.endswith('-done')


def _far(arrays: tuple[Array, ...]) -> int:
  return sum(array.bytes for array in arrays if not array.near)


def _moved(instruction: Instruction, scope: Scope, module: Module) -> float:
  opcode = instruction.opcode.removesuffix('-start')
  operands = [scope[name] for name in instruction.operands if name in scope]
  if opcode in SLICING or opcode == 'copy':
    result = _result(instruction)
    return sum(_far((array,)) for array in result) + min(
      sum(_far(operand.arrays) for operand in operands[:1]), sum(array.bytes for array in result)
    )
  if opcode == 'dynamic-update-slice':
    return 2 * _far(operands[1].arrays) if not instruction.arrays[0].near else 0
  if opcode == 'fusion':
    return _fusion_moved(instruction, operands, module.computations[instruction.called[0]])
  return _far(_result(instruction)) + sum(_far(operand.arrays) for operand in operands)


def _result(instruction: Instruction) -> tuple[Array, ...]:
  """What it writes; the start of an asynchronous operation also hands on its operands."""
  arrays = instruction.arrays
  if instruction.opcode.endswith('-start') and instruction.shape.startswith('('):
    return arrays[-2:-1] if len(arrays) == 3 else arrays[1:2]
  return arrays


def _fusion_moved(fusion: Instruction, operands: list[Instruction], inside: Scope) -> float:
  users: dict[str, list[Instruction]] = {}
  for instruction in inside.values():
    for operand in instruction.operands:
      users.setdefault(operand, []).append(instruction)

  def uses(name: str) -> list[tuple[Instruction, str]]:
    """Who uses an array, looking through bitcasts: (user, what it calls the array)."""
    found = []
    for user in users.get(name, ()):
      found += uses(user.name) if user.opcode == 'bitcast' else [(user, name)]
    return found

  moved = 0.0
  for instruction in inside.values():
    if instruction.opcode != 'parameter':
      continue
    array = (
      operands[int(instruction.arguments)].arrays
      if int(instruction.arguments) < len(operands)
      else ()
    )
    seen = uses(instruction.name)
    if seen and all(
      user.opcode in SLICING or (user.opcode == 'dynamic-update-slice' and user.operands[0] == name)
      for user, name in seen
    ):
      part = sum(user.arrays[0].bytes for user, _ in seen if user.opcode in SLICING)
      moved += min(part, _far(array))
    else:
      moved += _far(array)
  root = next(i for i in inside.values() if i.root)
  parts = [inside[name] for name in root.operands] if root.opcode == 'tuple' else [root]
  for part, array in zip(parts, fusion.arrays, strict=False):
    while part.opcode == 'bitcast':
      part = inside[part.operands[0]]
    if part.opcode == 'dynamic-update-slice' and not array.near:
      moved += sum(a.bytes for a in inside[part.operands[1]].arrays)
    else:
      moved += _far((array,))
  return moved
