"""The process that trains timm's model: reads numbers of steps, line by line; writes their seconds.

It is as fast as we know how to make it: all cores, fused AdamW, autocast for bfloat16, and on a GPU
TF32 and `max-autotune`.
"""

import json
import os
import sys
import time
from types import ModuleType

PARTS = 'ops ops.misc transforms transforms.functional datasets models utils'  # of torchvision


class _AnyClass(type):
  """A class with every attribute: its name."""

  def __getattr__(cls, name: str) -> str:
    return name


class _Anything(ModuleType):
  """Stands in for torchvision: timm's models import it and, for a ViT, use nothing of it."""

  def __getattr__(self, name: str):
    if name.startswith('__'):
      raise AttributeError(name)
    return _AnyClass(name, (), {}) if name[0].isupper() else self


def _import_timm() -> ModuleType:
  try:
    import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
  except (ImportError, RuntimeError):  # the latter where it was built for another PyTorch
    for name in ('torchvision', *(f'torchvision.{part}' for part in PARTS.split())):
      module = sys.modules[name] = _Anything(name)
      module.__path__ = []
  import timm  # pyright: ignore[reportMissingImports]

  return timm


def main() -> None:
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what the libraries print must not mix with the answers
  import torch  # pyright: ignore[reportMissingImports]

  job = json.loads(sys.argv[1])
  timm = _import_timm()
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.set_float32_matmul_precision('high')
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  torch.manual_seed(0)
  size = job['image_size']
  model = timm.create_model(job['model'], img_size=size, num_classes=1000).to(device).train()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
  forward = model
  if job['compiled']:
    forward = torch.compile(model, mode='max-autotune' if device == 'cuda' else None)
  images_BCHW = torch.randn(job['batch'], 3, size, size, device=device)
  labels_B = torch.randint(0, 1000, (job['batch'],), device=device)
  autocast = torch.autocast(device, torch.bfloat16, enabled=job['dtype'] == 'bfloat16')

  def train_step() -> None:
    optimizer.zero_grad(set_to_none=True)
    with autocast:
      loss = torch.nn.functional.cross_entropy(forward(images_BCHW), labels_B)
    loss.backward()
    optimizer.step()

  for line in sys.stdin:
    began = time.perf_counter()
    for _ in range(int(line)):
      train_step()
    if device == 'cuda':
      torch.cuda.synchronize()
    print(time.perf_counter() - began, file=answers, flush=True)


if __name__ == '__main__':
  main()
