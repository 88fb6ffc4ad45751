"""A job, independent of what starts it."""

import dataclasses
import hashlib
import posixpath
import re
import shlex
from dataclasses import dataclass
from typing import Any

from vit_jax.errors import UserError
from vit_jax.parallel.topology import Topology

PORT = 8476  # of the coordinator, where the job has its addresses to itself
TPU_PORT = 8482  # the same, where jax finds the hosts of a TPU slice by itself


def _only(targets: str, default: Any) -> Any:
  """A field that means something to these targets only."""
  return dataclasses.field(default=default, metadata={'targets': targets.split()})


@dataclass(frozen=True)
class Job:
  """One training run: its command, the machines it wants, and what is done when they go.

  The same command runs in every process of the job. It finds the others through
  JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or on a TPU slice through jax.
  The coordinator listens where JAX_COORDINATOR_BIND_ADDRESS says, and on no other interface.

  Fields have the names of their flags.
  """

  name: str
  config: str  # FILE[:ARG]
  workdir: str
  data_dir: str = ''
  overrides: tuple[str, ...] = ()  # --config.KEY=VALUE
  nodes: int = _only('slurm jobset skypilot', 1)
  processes: int = _only('local slurm', 1)  # on each node
  gpus_per_node: int = _only('local slurm jobset skypilot', 0)
  first_gpu: int = _only('local', 0)  # of those of the node
  gpu: str = _only('slurm jobset skypilot', '')  # their kind, such as H100
  topology: Topology | None = _only('jobset skypilot tpu_vm', None)  # of TPUs
  cpus: int = _only('slurm jobset skypilot', 0)  # for each process; 0: the target's default
  image: str = _only('slurm jobset tpu_vm', '')  # container image that holds vit_jax
  setup: str = _only('slurm skypilot tpu_vm', '')  # shell command that runs on each node first
  # (what to mount, the absolute path it gets)
  volume: tuple[tuple[str, str], ...] = _only('slurm jobset skypilot tpu_vm', ())
  # Network interface of the coordinator; '': where the nodes reach each other.
  interface: str = _only('slurm', '')
  time: str = _only('slurm', '')  # limit, as the target writes it
  partition: str = _only('slurm', '')
  account: str = _only('slurm', '')
  zone: str = _only('skypilot tpu_vm', '')
  spot: bool = _only('jobset skypilot tpu_vm', False)  # machines that may be taken away at any time
  restarts: int = _only('slurm jobset skypilot tpu_vm', 3)  # after faults, not after preemption
  # Seconds from the signal to save until the end; 0: the target's default.
  grace: int = _only('slurm jobset tpu_vm', 0)

  def __post_init__(self):
    if self.gpus_per_node and self.topology:
      raise UserError('--gpus_per_node and --topology are both given; a job runs on GPUs or TPUs')
    if self.gpus_per_node % self.processes:
      raise UserError(
        f'--gpus_per_node={self.gpus_per_node} GPUs cannot be divided over '
        f'--processes={self.processes}'
      )

  def check(self, target: str) -> None:
    """Refuses flags that would change nothing, and those that contradict each other.

    Raises:
      UserError: there is one.
    """
    for field in dataclasses.fields(Job):
      targets = field.metadata.get('targets', [target])
      if target not in targets and getattr(self, field.name) != field.default:
        raise UserError(
          f'--{field.name} means nothing to --target={target}; it is for: {", ".join(targets)}'
        )
    place = self.topology
    if place and self.gpu:
      raise UserError('--gpu and --topology are both given; a job runs on GPUs or TPUs')
    if self.gpu and not self.gpus_per_node:
      raise UserError(
        f'--gpu={self.gpu} is a kind of GPU; add how many each machine has, as in --gpus_per_node=8'
      )
    if place and place.chip.cloud is None:
      raise UserError(
        f'--topology={place.name}: launch starts TPU slices v4, v5e, v5p and v6e; for GPUs give '
        '--nodes and --gpus_per_node'
      )
    if place and place.groups > 1 and target != 'jobset':
      raise UserError(f'--topology={place.name}: several slices are for --target=jobset')
    if place and self.nodes > 1:
      raise UserError(
        f'--nodes={self.nodes} counts machines without TPUs; a TPU slice has the hosts of its '
        '--topology, and several slices are --topology=N*CHIP:SHAPE of --target=jobset'
      )

  def check_workdir(self) -> None:
    """Refuses a run folder that would be lost with the machine."""
    if not any(self.workdir.startswith(posixpath.join(path, '')) for _, path in self.volume):
      raise UserError(
        f'--workdir={self.workdir} would be lost with its machine; put it on a '
        'volume that all of them share, as in --volume=SOURCE:/runs '
        '--workdir=/runs/NAME'
      )

  @property
  def arguments(self) -> list[str]:
    """What follows `vit_jax` on the command line."""
    data_dir = [f'--data_dir={self.data_dir}'] if self.data_dir else []
    flags = [f'--config={self.config}', f'--workdir={self.workdir}', *data_dir]
    return ['train', *flags, *self.overrides]

  @property
  def command(self) -> str:
    """The command as a shell reads it."""
    return shlex.join(['python', '-m', 'vit_jax', *self.arguments])

  @property
  def label(self) -> str:
    """The name in letters that Kubernetes and clouds allow, with room for what they add."""
    label = re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-') or 'vit-jax'
    if len(label) > 40:  # runs of a sweep differ at the end: the digest keeps them apart
      label = f'{label[:33].rstrip("-")}-{digest(self.name)}'
    return label if label[0].isalpha() else f'j-{label}'

  def devices_of(self, process: int) -> list[int]:
    """The GPUs of a node that its `process`-th process has."""
    each = self.gpus_per_node // self.processes
    first = self.first_gpu + process * each
    return list(range(first, first + each))


def join(items: list[int]) -> str:
  return ','.join(map(str, items))


def digest(text: str) -> str:
  """A few letters that identify a text."""
  return hashlib.sha256(text.encode()).hexdigest()[:6]
