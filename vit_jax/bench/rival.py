"""The rival: timm's ViT under PyTorch, eager or compiled, in a process of its own.

A separate process keeps the two thread pools and memory allocators apart. It reads a number of
steps and writes the seconds they took.
"""

import importlib.metadata
import json
import subprocess
import sys
from contextlib import suppress

from vit_jax.errors import UserError, nearest

TIMM_NAMES = {
  'Ti/16': 'vit_tiny_patch16_224',
  'S/16': 'vit_small_patch16_224',
  'S/32': 'vit_small_patch32_224',
  'B/16': 'vit_base_patch16_224',
  'B/32': 'vit_base_patch32_224',
  'L/16': 'vit_large_patch16_224',
  'L/32': 'vit_large_patch32_224',
  'H/14': 'vit_huge_patch14_224',
  'g/14': 'vit_giant_patch14_224',
  'G/14': 'vit_gigantic_patch14_224',
}


class Timm:
  """timm's model of the same shape, trained by a worker process."""

  def __init__(self, model_name: str, batch: int, image_size: int, dtype: str, compiled: bool):
    self.name = f'timm {dtype} {"compiled" if compiled else "eager"}'
    job = {'model': TIMM_NAMES[model_name], 'batch': batch, 'image_size': image_size}
    job |= {'dtype': dtype, 'compiled': compiled}
    self._worker = subprocess.Popen(
      [sys.executable, '-m', 'vit_jax.bench.timm_worker', json.dumps(job)],
      text=True,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
    )

  def steps(self, count: int) -> float:
    assert self._worker.stdin and self._worker.stdout
    print(count, file=self._worker.stdin, flush=True)
    answer = self._worker.stdout.readline()
    if not answer:
      raise RuntimeError(f'{self.name} ended with exit code {self._worker.wait()}')
    return float(answer)

  def close(self) -> None:
    assert self._worker.stdin
    self._worker.stdin.close()
    self._worker.wait()

  @classmethod
  def check(cls, model_name: str) -> None:
    """Raises a UserError where this rival cannot run."""
    if model_name not in TIMM_NAMES:
      raise UserError(
        f'--against=timm has no model {model_name!r}; {nearest(model_name, TIMM_NAMES)}'
      )
    missing = [name for name in ('torch', 'timm') if name not in cls.versions()]
    if missing:
      raise UserError(f'--against=timm needs {" and ".join(missing)}: pip install torch timm')

  @staticmethod
  def versions() -> dict[str, str]:
    found = {}
    for name in ('torch', 'timm'):
      with suppress(importlib.metadata.PackageNotFoundError):
        found[name] = importlib.metadata.version(name)
    return found
