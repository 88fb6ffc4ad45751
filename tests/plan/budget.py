"""Prints what B/16 of two layers needs on chips that are not here, as one JSON object a line.

    python tests/plan/budget.py KNOWN TOPOLOGY ...

KNOWN is a JSON file of {topology: {"key": ..., "figures": ...}}: a program whose key is there is
not compiled again.
"""

import json
import sys
from pathlib import Path

import jax

from vit_jax import config
from vit_jax.config import Experiment
from vit_jax.parallel import topology
from vit_jax.plan import planner, program

IMAGES = 64  # a device
# Several GPUs reduce gradients in bfloat16 here, so that both forms of the reduction are watched.
REDUCE = {'h100:8': 'bfloat16'}


def experiment(place: topology.Topology) -> Experiment:
  """ImageNet-1k with AdamW, parameters on every device, straight code, nothing recomputed."""
  devices = place.group_devices * place.groups
  return config.resolve(
    dict(
      steps=100_000,
      batch_size=IMAGES * devices,
      model=dict(name='B/16', pool='cls', depth=2, dtype='bfloat16', remat='none'),
      data=dict(name='imagenet2012', num_classes=1000, image_size=(224, 224)),
      optim=dict(
        lr=1e-3,
        weight_decay=1e-4,
        clip_norm=1.0,
        warmup=dict(steps=10_000),
        reduce_dtype=REDUCE.get(place.name, 'float32'),
      ),
      mesh=dict(replica=devices, fsdp=1),
    )
  )


def main(known: str, names: list[str]) -> None:
  jax.config.update('jax_platforms', 'cpu')
  before = json.loads(Path(known).read_text())
  for name in names:
    place = topology.parse(name)
    case = program.Case(experiment(place), place, 1_281_167, 1000)
    step = program.lower(case)
    row = before.get(name, {})
    if step.key != row.get('key'):
      plan = planner.make_plan(case, None)
      work, memory = plan.work, plan.compiled.memory
      row = {
        'key': step.key,
        'versions': plan.compiled.versions,
        'figures': {
          'megabytes_an_image': work.traffic / IMAGES / 1e6,
          'temporaries_mib': memory['temporaries'] / 2**20,
          **{f'{kind}_mb': size for kind, size in reduced(work.collectives).items()},
        },
      }
    print(json.dumps({'topology': name, **row}), flush=True)


def reduced(moved) -> dict[str, float]:
  """Megabytes of each kind of collective."""
  sizes: dict[str, float] = {}
  for one in moved:
    sizes[one.kind] = sizes.get(one.kind, 0.0) + one.bytes / 1e6
  return sizes


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2:])
