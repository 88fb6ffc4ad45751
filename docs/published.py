"""Are published training speeds below the bound of `vit_jax plan`? Writes docs/published.csv.

    pip install -e '.[plan]' && python docs/published.py

Each row is planned as our own step of the same model, on the same chips, with the batch on a chip
and the precision of its source where that is known:
- torch.compile (max-autotune, synthetic images): nvSubquadratic's benchmarks, a ViT-5-Small in
  bfloat16
- NeMo on 8 GPUs: the performance page of its ViT; batch and bfloat16 from its predefined g/14
- timm: results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv (H/14: nchw), 16-bit autocast
- deit3-jax on 32 TPU v4 chips, with its data: the hours of its 300 epochs of DeiT; 1,024 images a
  step by its configs, and a model without a dtype, which is float32
big_vision on Vertex (one A100) and on 32 TPU v3 cores and PyTorch (timm or Hugging Face with
Lightning, 8 A100s) are not known to say either: a batch that fits, bfloat16. All at 224 pixels.
Plans are cached, so that what was interrupted goes on.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from vit_jax.parallel import topology


class Published(NamedTuple):
  source: str
  model: str
  topology: str
  batch: int  # on a device
  dtype: str
  speed: float  # images per second on a chip
  flags: tuple[str, ...] = ()


BF16, F32 = 'bfloat16', 'float32'
FSDP_8, FSDP_32 = ('--config.mesh.fsdp=8',), ('--config.mesh.fsdp=32',)
PUBLISHED = [
  Published('torch.compile', 'S/16', 'h100:1', 256, BF16, 8003),
  Published('NeMo', 'g/14', 'h100:8', 64, BF16, 178.5, FSDP_8),
  Published('NeMo', 'g/14', 'a100:8', 64, BF16, 86.6, FSDP_8),
  Published('big_vision', 'L/16', 'a100-40:1', 64, BF16, 296),
  Published('PyTorch', 'L/16', 'a100-40:8', 64, BF16, 240),
  Published('PyTorch', 'H/14', 'a100-40:8', 32, BF16, 69),
  Published('big_vision', 'L/16', 'v3:4x4', 32, BF16, 189, FSDP_32),
  Published('big_vision', 'H/14', 'v3:4x4', 16, BF16, 62, FSDP_32),
  Published('big_vision', 'g/14', 'v3:4x4', 8, BF16, 36, FSDP_32),
  Published('big_vision', 'G/14', 'v3:4x4', 8, BF16, 21, FSDP_32),
  Published('timm', 'S/16', 'rtx3090:1', 384, BF16, 1058),
  Published('timm', 'B/16', 'rtx3090:1', 192, BF16, 393),
  Published('timm', 'L/16', 'rtx3090:1', 64, BF16, 117),
  Published('timm', 'H/14', 'rtx3090:1', 16, BF16, 40),
  Published('deit3-jax', 'S/16', 'v4:2x4x4', 32, F32, 1228),
  Published('deit3-jax', 'B/16', 'v4:2x4x4', 32, F32, 715),
]
OUT = Path(__file__).with_name('published.csv')


def bound(row: Published) -> tuple[float, str, str]:
  """(images per second on a chip at most, what limits it, versions of the compilers)."""
  at = topology.parse(row.topology)
  devices = at.group_devices * at.groups
  with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, 'plan.csv')
    command = [sys.executable, '-m', 'vit_jax', 'plan', '--config', f'vit_i21k:{row.model}']
    # 22,000 classes would be a fifth of a small model.
    command += [f'--topology={row.topology}', '--num_classes=1000', '--num_examples=1281167']
    command += ['--config.model.dropout=0.0', f'--config.model.dtype={row.dtype}']
    command += [f'--config.batch_size={row.batch * devices}', f'--csv={file}', *row.flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    [plan] = csv.DictReader(file.open())
  return float(plan['bound_images_per_second']) / at.chips, plan['limited_by'], plan['versions']


def main() -> None:
  rows = []
  for row in PUBLISHED:
    most, by, versions = bound(row)
    found = row._asdict()
    del found['flags']
    found |= dict(bound=round(most, 2), share=round(row.speed / most, 3), limited_by=by)
    rows.append(found | dict(versions=versions))
    print(*rows[-1].values(), flush=True)
    with OUT.open('w', newline='') as file:
      writer = csv.DictWriter(file, list(rows[0]))
      writer.writeheader()
      writer.writerows(rows)


if __name__ == '__main__':
  main()
