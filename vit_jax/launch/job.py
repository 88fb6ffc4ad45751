"""What a job is, whatever starts it."""

from __future__ import annotations

import hashlib
import posixpath
import re
import shlex
from dataclasses import dataclass

from vit_jax.errors import UserError
from vit_jax.launch.slices import Slice

PORT = 8476  # of the coordinator, where the job has its addresses to itself
TPU_PORT = 8482  # likewise, where jax finds the hosts of a TPU slice by itself


@dataclass(frozen=True)
class Job:
  """One training run: its command, the machines it wants, and what is done when they go.

  The same command runs in every process of the job. It finds the others through
  JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or on a TPU slice through jax.
  Where JAX_COORDINATOR_BIND_ADDRESS says, and on no other interface, the coordinator listens.
  """

  name: str
  config: str  # FILE[:ARG]
  workdir: str
  data_dir: str = ''
  overrides: tuple[str, ...] = ()  # --config.KEY=VALUE
  nodes: int = 1
  processes: int = 1  # on each node
  gpus: int = 0  # on each node
  first_gpu: int = 0  # of those of the node
  gpu: str = ''  # their kind, such as H100
  tpu: Slice | None = None
  slices: int = 1  # TPU slices, joined by the data centre's network
  cpus: int = 0  # for each process; 0: as the place has it
  image: str = ''  # container image that holds vit_jax
  setup: str = ''  # shell command that runs on each node first
  volumes: tuple[tuple[str, str], ...] = ()  # (what to mount, the absolute path it gets)
  interface: str = ''  # network interface of the coordinator; '': where the nodes reach each other
  time: str = ''  # limit, in the words of the place
  partition: str = ''
  account: str = ''
  zone: str = ''
  spot: bool = False  # machines that may be taken away at any time
  restarts: int = 3  # after faults; being preempted does not count
  grace: int = 0  # seconds from the signal to save until the end; 0: as the place has it

  def __post_init__(self):
    if self.gpus and self.tpu:
      raise UserError('--gpus_per_node and --topology are both given; a job runs on GPUs or TPUs')
    if self.gpus % self.processes:
      raise UserError(
        f'--gpus_per_node={self.gpus} GPUs cannot be divided over --processes={self.processes}'
      )
    if self.slices > 1 and not self.tpu:
      raise UserError('--slices counts TPU slices; add --topology, as in --topology=v5e:16x16')

  def check_workdir(self) -> None:
    """Refuses a run folder that would be lost with the machine."""
    if not any(self.workdir.startswith(posixpath.join(path, '')) for _, path in self.volumes):
      raise UserError(
        f'--workdir={self.workdir} would be lost with its machine; put it on a '
        'volume that all of them share, as in --volume=SOURCE:/runs '
        '--workdir=/runs/NAME'
      )

  @property
  def arguments(self) -> list[str]:
    """What follows `vit_jax` on the command line."""
    data_dir = [f'--data_dir={self.data_dir}'] if self.data_dir else []
    return [
      'train',
      f'--config={self.config}',
      f'--workdir={self.workdir}',
      *data_dir,
      *self.overrides,
    ]

  @property
  def command(self) -> str:
    """The command as a shell reads it."""
    return shlex.join(['python', '-m', 'vit_jax', *self.arguments])

  @property
  def label(self) -> str:
    """The name in the letters that Kubernetes and clouds allow, with room for what they add."""
    label = re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-') or 'vit-jax'
    if len(label) > 40:  # the end tells runs of a sweep apart: keep a trace of it
      label = f'{label[:33].rstrip("-")}-{digest(self.name)}'
    return label if label[0].isalpha() else f'j-{label}'

  def devices_of(self, process: int) -> list[int]:
    """The GPUs of a node that its `process`-th process has."""
    each = self.gpus // self.processes
    first = self.first_gpu + process * each
    return list(range(first, first + each))


def join(items: list[int]) -> str:
  return ','.join(map(str, items))


def digest(text: str) -> str:
  """A few letters that tell it from others."""
  return hashlib.sha256(text.encode()).hexdigest()[:6]
