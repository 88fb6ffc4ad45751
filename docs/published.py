"""Are published training speeds below the bound of `vit_jax plan`? Writes docs/published.csv.

    pip install -e '.[plan]' && python docs/published.py

Each row is planned as our own step of the same model, on the same chips, at a batch that fits;
plans are cached, so that what was interrupted goes on. 40 minutes on two cores.
Published: a ViT-S step by torch.compile (max-autotune, synthetic images), NVIDIA NeMo on 8 GPUs,
big_vision on Vertex (one A100) and on 32 TPU v3 cores, timm or HF with Lightning on 8 A100s,
deit3-jax on 32 TPU v4 chips with its data, timm's training benchmark (amp, channels_last) on an
RTX 3090. All at 224 pixels, none says its batch.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from vit_jax.parallel import topology

ROLLED = '--config.model.unroll=False'
# Source, model, topology, batch on a device, published images per second on a chip, flags.
PUBLISHED = [
  ('torch.compile', 'S/16', 'h100:1', 256, 8003, []),
  ('NeMo', 'g/14', 'h100:8', 32, 178.5, ['--config.mesh.fsdp=8', ROLLED]),
  ('NeMo', 'g/14', 'a100:8', 32, 86.6, ['--config.mesh.fsdp=8', ROLLED]),
  ('big_vision', 'L/16', 'a100-40:1', 64, 296, []),
  ('PyTorch', 'L/16', 'a100-40:8', 64, 240, []),
  ('PyTorch', 'H/14', 'a100-40:8', 32, 69, [ROLLED]),
  ('big_vision', 'L/16', 'v3:4x4', 32, 189, ['--config.mesh.fsdp=32', ROLLED]),
  ('big_vision', 'H/14', 'v3:4x4', 16, 62, ['--config.mesh.fsdp=32', ROLLED]),
  ('big_vision', 'g/14', 'v3:4x4', 8, 36, ['--config.mesh.fsdp=32', ROLLED]),
  ('big_vision', 'G/14', 'v3:4x4', 8, 21, ['--config.mesh.fsdp=32', ROLLED]),
  ('timm', 'S/16', 'rtx3090:1', 256, 1058, []),
  ('timm', 'B/16', 'rtx3090:1', 128, 393, []),
  ('timm', 'L/16', 'rtx3090:1', 32, 117, []),
  ('timm', 'H/14', 'rtx3090:1', 16, 40, [ROLLED]),
  ('deit3-jax', 'S/16', 'v4:2x4x4', 64, 1228, [ROLLED]),
  ('deit3-jax', 'B/16', 'v4:2x4x4', 64, 715, [ROLLED]),
]
OUT = Path(__file__).with_name('published.csv')


def bound(model: str, place: str, batch: int, flags: list[str]) -> tuple[float, str, str]:
  """(images per second on a chip at most, what limits it, versions of the compilers)."""
  at = topology.parse(place)
  devices = at.group_devices * at.groups
  with tempfile.TemporaryDirectory() as folder:
    row_file = Path(folder, 'row.csv')
    command = [sys.executable, '-m', 'vit_jax', 'plan', '--config', f'vit_i21k:{model}']
    # 22,000 classes would be a fifth of a small model.
    command += [f'--topology={place}', '--num_classes=1000', '--num_examples=1281167']
    command += ['--config.model.dropout=0.0']
    command += [f'--config.batch_size={batch * devices}', f'--csv={row_file}', *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    [row] = csv.DictReader(row_file.open())
  return float(row['bound_images_per_second']) / at.chips, row['limited_by'], row['versions']


def main() -> None:
  rows = []
  for source, model, place, batch, published, flags in PUBLISHED:
    most, by, versions = bound(model, place, batch, flags)
    row = dict(source=source, model=model, topology=place, batch=batch, published=published)
    row |= dict(bound=round(most, 2), share=round(published / most, 3), limited_by=by)
    rows.append(row | dict(versions=versions))
    print(*row.values(), flush=True)
    with OUT.open('w', newline='') as file:
      writer = csv.DictWriter(file, list(rows[0]))
      writer.writeheader()
      writer.writerows(rows)


if __name__ == '__main__':
  main()
