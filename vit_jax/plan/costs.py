"""What one device computes and moves in one step, counted from its optimized HLO."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

import numpy as np

from vit_jax.plan.hlo import Array, Instruction, Module, arrays_of, elements

Scope = Mapping[str, Instruction]

# Instructions that move nothing by themselves.
FREE = {
  'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional', 'call',
  'after-all', 'partition-id', 'replica-id', 'optimization-barrier', 'domain',
}  # fmt: skip
SLICING = {'dynamic-slice', 'slice', 'gather'}
# A GPU's library calls that are matrix products.
GEMMS = ('__cublas$gemm', '__cublas$lt$matmul', '__cublas$lt$matmul$f8', '__onednn$matmul')
# cuDNN's attention, and its products: scores and result; scores again and four gradients.
ATTENTION = {'__cudnn$fmhaSoftmax': 2, '__cudnn$fmhaSoftmaxBackward': 5}


def flops(module: Module) -> float:
  """FLOP of all matrix products and convolutions, two for each multiply-accumulate."""
  total = 0.0
  for name, times, instruction in module.executed():
    scope = module.computations[name]
    if instruction.opcode == 'convolution':
      total += times * _convolution_flops(instruction, scope)
    elif instruction.opcode == 'dot':
      axes = instruction.attribute(r'lhs_contracting_dims=\{([^}]*)\}')
      total += times * _product_flops(instruction, axes, scope)
    elif (target := _target(instruction)) in GEMMS:
      axes = instruction.attribute(r'"lhs_contracting_dimensions":\[([^\]]*)\]')
      total += times * _product_flops(instruction, axes, scope)
    elif target in ATTENTION:
      q_BNAE, k_BTAE = (_shape(name, scope) for name in instruction.operands[:2])
      total += times * ATTENTION[target] * 2.0 * math.prod(q_BNAE) * k_BTAE[1]
  return total


def _target(instruction: Instruction) -> str:
  """The library function of a custom call, or ''."""
  return instruction.attribute(r'custom_call_target="([^"]*)"')


def _shape(name: str, scope: Scope) -> tuple[int, ...]:
  return scope[name].arrays[0].shape


def _product_flops(product: Instruction, contracted: str, scope: Scope) -> float:
  left = _shape(product.operands[0], scope)
  sums = math.prod(left[int(axis)] for axis in re.findall(r'\d+', contracted))
  return 2.0 * math.prod(product.arrays[0].shape) * sums


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

  defaults = {'stride': '1', 'pad': '0', 'lhs_dilate': '1', 'rhs_dilate': '1'}
  numbers = (sides(key, default) for key, default in defaults.items())
  positions = math.prod(
    _valid(left[lhs.index(axis)], right[rhs.index(axis)], result[out.index(axis)], *its)
    for axis, *its in zip(axes, *numbers, strict=True)
  )
  images = left[lhs.index('b')] / int(convolution.attribute(r'batch_group_count=(\d+)') or 1)
  return 2.0 * positions * images * right[rhs.index('i')] * right[rhs.index('o')]


@functools.lru_cache(maxsize=1 << 14)
def _valid(
  size: int, kernel: int, out: int, stride: int, pad: int, dilate: int, kernel_dilate: int
) -> int:
  """Pairs of an output and a kernel position that meet an element of the input."""
  places = np.arange(out) * stride - pad + np.arange(kernel)[:, None] * kernel_dilate
  valid = (0 <= places) & (places <= (size - 1) * dilate) & (places % dilate == 0)
  return int(valid.sum())


def traffic(module: Module) -> float:
  """Bytes between HBM and a device's units: every fusion reads and writes its arrays once.

  Arrays in a TPU's fast memory are free, and so is what stays the same in an update in place.
  """
  total = 0.0
  for name, times, instruction in module.executed():
    free = instruction.opcode in FREE or instruction.opcode.endswith('-done')
    if name not in module.fused and not free:
      total += times * _moved(instruction, module.computations[name], module)
  return total


def _far(arrays: tuple[Array, ...]) -> int:
  return sum(array.bytes for array in arrays if not array.near)


def _moved(instruction: Instruction, scope: Scope, module: Module) -> float:
  opcode = instruction.opcode.removesuffix('-start')
  operands = [scope[name] for name in instruction.operands if name in scope]
  if opcode in SLICING or opcode == 'copy':
    result = _result(instruction)
    source = sum(_far(operand.arrays) for operand in operands[:1])
    return _far(result) + min(source, sum(array.bytes for array in result))
  if opcode == 'dynamic-update-slice':
    return 2 * _far(operands[1].arrays) if not instruction.arrays[0].near else 0
  if opcode == 'fusion':
    return _fusion_moved(instruction, operands, module)
  return _far(_result(instruction)) + sum(_far(operand.arrays) for operand in operands)


def _result(instruction: Instruction) -> tuple[Array, ...]:
  """What it writes.

  The start of an asynchronous operation also hands on its operands: (operands, result, context),
  except that of a copy: (result, operand, context). A library call also returns its workspace.
  """
  parts = elements(instruction.shape)
  if instruction.opcode.endswith('-start') and len(parts) > 1:
    return arrays_of(parts[0 if instruction.opcode == 'copy-start' else 1])
  if instruction.opcode == 'custom-call' and len(parts) > 1 and parts[-1].startswith(('s8', 'u8')):
    return instruction.arrays[:-1]
  return instruction.arrays


def _fusion_moved(fusion: Instruction, operands: list[Instruction], module: Module) -> float:
  inside = module.computations[fusion.called[0]]
  moved = 0.0
  for parameter in _parameters(inside):
    whole = sum(_far(each.arrays) for each in operands[int(parameter.arguments) :][:1])
    moved += min(whole, _read(parameter.name, inside, module))
  root = _root(inside)
  parts = [inside[name] for name in root.operands] if root.opcode == 'tuple' else [root]
  for part, array in zip(parts, _result(fusion), strict=False):
    if not array.near:
      moved += min(array.bytes, _written(part, inside, module))
  return moved


def _parameters(scope: Scope) -> list[Instruction]:
  return [each for each in scope.values() if each.opcode == 'parameter']


def _root(scope: Scope) -> Instruction:
  return next(each for each in scope.values() if each.root)


def _unwrapped(part: Instruction, scope: Scope) -> Instruction:
  """What a bitcast, or a row of them, is of."""
  while part.opcode == 'bitcast':
    part = scope[part.operands[0]]
  return part


def _read(name: str, scope: Scope, module: Module) -> float:
  """Bytes that a fused computation reads of an array in it, or inf: all of them.

  A slice is read alone, also where a fusion within the fusion takes it; of what is updated in place
  nothing is read.
  """
  if scope[name].root:
    return math.inf
  read = 0.0
  for user in scope.values():
    for place, operand in enumerate(user.operands):
      if operand != name:
        continue
      if user.opcode == 'bitcast':
        read += _read(user.name, scope, module)
      elif user.opcode in SLICING and place == 0:
        # Of the type of the source: a slice may be narrowed on its way.
        read += dataclasses.replace(scope[name].arrays[0], shape=user.arrays[0].shape).bytes
      elif user.opcode == 'fusion':
        inner = module.computations[user.called[0]]
        [parameter] = [each for each in _parameters(inner) if int(each.arguments) == place]
        if _unwrapped(_root(inner), inner) is parameter:  # it is only called another name
          read += _read(user.name, scope, module)
        else:
          read += _read(parameter.name, inner, module)
      elif not (user.opcode == 'dynamic-update-slice' and place == 0):
        return math.inf
  return read


def _written(part: Instruction, scope: Scope, module: Module) -> float:
  """Bytes that a fused computation writes of a result, or inf: all of them."""
  part = _unwrapped(part, scope)
  if part.opcode == 'fusion' and len(part.arrays) == 1:
    inner = module.computations[part.called[0]]
    return _written(_root(inner), inner, module)
  if part.opcode == 'dynamic-update-slice':
    return sum(array.bytes for array in scope[part.operands[1]].arrays)
  return math.inf
