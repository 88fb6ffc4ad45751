"""What saves cost a run whose folder is at an address: bytes of each host, and seconds."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from vit_jax.parallel import rules
from vit_jax.tables import clock
from vit_jax.train.trainer import Trainer
from vit_jax.trees import flatten


class Save(NamedTuple):
  """One checkpoint. Bytes are those of its arrays, which are compressed as files."""

  size: int
  hosts: int  # processes, each with a disk of its own
  kept: int  # the most that a host writes to its disk
  sent: float  # what each host uploads of it
  period: float  # seconds from one upload to the next, 0 if not known


def save_of(
  trainer: Trainer,
  step_seconds: float,
  host: Callable[[Any], int] = lambda device: device.process_index,
) -> Save:
  """Reads the state and its shardings.

  Args:
    step_seconds: the least of a step, 0 if not known: for saves that are due by steps.
    host: that a device belongs to.
  """
  options = trainer.experiment.checkpoint
  tree = trainer.abstract_state.as_tree()
  leaves, shards = flatten(tree), rules.bytes_per_chip(tree)
  size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves.values())
  kept = Counter[int]()
  for name, leaf in leaves.items():
    places = leaf.sharding.devices_indices_map(leaf.shape).items()
    # A shard that several devices of a host hold is written once.
    for index, _ in {(host(device), str(place)) for device, place in places}:
      kept[index] += shards[name]
  periods = (60 * options.minutes, trainer.to_steps(options.every) * step_seconds)
  period = min(filter(None, periods), default=0.0) * options.upload_every
  return Save(size, len(kept), max(kept.values()), size / len(kept), period)


def save_lines(save: Save, bandwidth: float) -> list[str]:
  """As text.

  Args:
    bandwidth: of a host to the store in MB/s, 0 if not known.
  """
  each = f'each of {save.hosts} hosts' if save.hosts > 1 else 'the host'
  lines = [
    f'a checkpoint: {save.size / 1e9:,.3f} GB; in a run folder at an address {each} writes '
    f'{save.kept / 1e9:,.3f} GB to its disk and uploads {save.sent / 1e9:,.3f} GB'
  ]
  if bandwidth:
    seconds = save.sent / 1e6 / bandwidth
    lines.append(f'  at {bandwidth:g} MB/s of a host an upload takes {clock(seconds)}, ')
    if not save.period:
      lines[-1] += 'beside training'
    elif seconds <= save.period:
      lines[-1] += f'beside training, and the next one is due after {clock(save.period)}'
    else:
      lines[-1] += (
        f'but the next one is due after {clock(save.period)} and would wait: multiply '
        f'config.checkpoint.upload_every by {math.ceil(seconds / save.period)}'
      )
  elif save.period:
    rate = save.sent / save.period / 1e6
    lines.append(
      f'  an upload every {clock(save.period)} asks for {rate:,.3g} MB/s of a host; '
      '--bandwidth says what there is'
    )
  return lines
