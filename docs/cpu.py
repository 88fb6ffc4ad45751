"""Where a train step of ViT-Ti/16 goes on a CPU, beside PyTorch: `python docs/cpu.py`.

Times the parts of 12 layers, 16 images of 224 pixels, forward and backward: our own functions and
PyTorch's, in turns, in one process. It needs `pip install torch`. Whole steps are timed by
`vit_jax bench --model=Ti/16 --batch=16 --against=timm --dtype=both`.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from vit_jax.models import dense, dot_product, layers
from vit_jax.parallel.device import keep_cpu_memory

B, N, D, A, E, HIDDEN, LAYERS = 16, 197, 192, 3, 64, 768, 12
TURNS, REPEATS = 5, 4
WHO, DTYPES = ('vit_jax', 'PyTorch'), ('float32', 'bfloat16')


def linear(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
  return F.linear(x, kernel.mT, bias)


# name: calls per layer, shapes, ours, PyTorch's
PARTS: dict[str, tuple[int, tuple[tuple[int, ...], ...], Any, Any]] = {
  'products of queries, keys, values': (
    1,
    ((B, N, D), (D, 3 * D), (3 * D,)),
    dense.affine,
    linear,
  ),
  'attention': (
    1,
    ((B, N, A, E),) * 3,
    dot_product.xla_attention,
    lambda *qkv: F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in qkv)),
  ),
  'product after attention': (
    1,
    ((B, N, D), (D, D), (D,)),
    dense.affine,
    linear,
  ),
  'first product of the MLP': (
    1,
    ((B, N, D), (D, HIDDEN), (HIDDEN,)),
    dense.affine,
    linear,
  ),
  'GELU': (1, ((B, N, HIDDEN),), lambda x: layers.gelu(x, True), F.gelu),
  'second product of the MLP': (
    1,
    ((B, N, HIDDEN), (HIDDEN, D), (D,)),
    dense.affine,
    linear,
  ),
  'LayerNorm': (
    2,
    ((B, N, D), (D,), (D,)),
    layers.layer_norm,
    lambda x, scale, bias: F.layer_norm(x, (D,), scale, bias, 1e-6),
  ),
}


def seconds(run: Callable[[], Any]) -> float:
  start = time.perf_counter()
  for _ in range(REPEATS):
    run()
  return (time.perf_counter() - start) / REPEATS


def contenders(shapes, ours, theirs, dtype: str) -> dict[str, Callable[[], Any]]:
  """Forward and backward of both. Activations are in `dtype`; parameters are float32."""
  rng = np.random.default_rng(0)
  arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
  dtypes = [dtype if len(shape) > 2 else 'float32' for shape in shapes]
  args = [jnp.asarray(x, kind) for x, kind in zip(arrays, dtypes, strict=True)]
  ct = jnp.ones_like(jax.eval_shape(ours, *args), dtype=dtype)

  @jax.jit
  def both(ct, *args):
    y, pull = jax.vjp(ours, *args)
    return y, pull(ct)

  inputs = [
    torch.tensor(x).to(getattr(torch, kind)).requires_grad_()
    for x, kind in zip(arrays, dtypes, strict=True)
  ]

  def torch_both() -> None:
    y = theirs(*(x.to(getattr(torch, dtype)) for x in inputs))
    y.backward(torch.ones_like(y))

  return {
    'vit_jax': lambda: jax.block_until_ready(both(ct, *args)),
    'PyTorch': torch_both,
  }


def main() -> None:
  keep_cpu_memory()
  print('| milliseconds a step | ' + ' | '.join(f'{w}, {d}' for d in DTYPES for w in WHO) + ' |')
  print('|---' * (1 + len(DTYPES) * len(WHO)) + '|')
  sums = dict.fromkeys(((w, d) for d in DTYPES for w in WHO), 0.0)
  for name, (calls, shapes, ours, theirs) in PARTS.items():
    found = {}
    for dtype in DTYPES:
      runs = contenders(shapes, ours, theirs, dtype)
      turns = {who: [] for who in WHO}
      for run in runs.values():
        run()
      for _ in range(TURNS):
        for who, run in runs.items():
          turns[who].append(1e3 * calls * LAYERS * seconds(run))
      for who in WHO:
        found[who, dtype] = statistics.median(turns[who])
        sums[who, dtype] += found[who, dtype]
    print(f'| {name} | ' + ' | '.join(f'{found[key]:.0f}' for key in sums) + ' |')
  print('| sum | ' + ' | '.join(f'{total:.0f}' for total in sums.values()) + ' |')


if __name__ == '__main__':
  main()
