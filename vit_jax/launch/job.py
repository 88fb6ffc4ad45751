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
from vit_jax.paths import is_address

PORT = 8476  # of the coordinator, where the job has its addresses to itself
TPU_PORT = 8482  # the same, where jax itself finds the hosts of a TPU slice

# Targets with something in common.
NODES, TPUS = 'slurm jobset skypilot', 'jobset skypilot tpu_vm'
REMOTE = 'slurm jobset skypilot tpu_vm'


PLAIN = r'[\w.,:+@/%=-]*'  # what stands in a script without quotes


def _flag(default: Any, targets: str, words: str = '', least: int = 1, plain: bool = False) -> Any:
  """A field that is a flag of `launch`, with its help, and means something to these targets only.

  Of a number, `least` is the smallest that the flag takes. A text that is `plain` has no spaces or
  signs that mean something to a shell.
  """
  metadata = {'targets': targets.split(), 'help': words, 'least': least, 'plain': plain}
  return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Job:
  """One training run: its command, the machines it wants, and what happens when they fail or go.

  The same command runs in every process of the job. It finds the others through
  JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or on a TPU slice through jax.
  The coordinator listens where JAX_COORDINATOR_BIND_ADDRESS says, and on no other interface.

  Numbers of 0 and texts of '' leave the choice to the target. A volume is (what to mount, the
  absolute path it gets).
  """

  name: str
  config: str  # FILE[:ARG]
  workdir: str
  overrides: tuple[str, ...] = ()  # --config.KEY=VALUE
  first_gpu: int = 0  # of those of the node
  nodes: int = _flag(1, NODES, 'machines')
  processes: int = _flag(1, 'local slurm', 'on each machine')
  gpus_per_node: int = _flag(0, f'local {NODES}', 'on each machine')
  gpu: str = _flag('', NODES, 'kind of GPU, as the target calls it, such as H100', plain=True)
  topology: Topology | None = _flag(None, TPUS, 'TPU slices, such as v5e:16x16 or 2*v5e:16x16')
  cpus: int = _flag(0, NODES, 'for each process')
  data_dir: str = _flag('', f'local {REMOTE}', 'prepared data sets, where the job runs')
  volume: tuple[tuple[str, str], ...] = _flag(
    (), REMOTE, 'storage to mount (a claim, a bucket, a folder), and where; may be repeated'
  )
  secret: str = _flag(
    '',
    'jobset',
    'Kubernetes secret, each value of which is an environment variable: credentials of a bucket',
    plain=True,
  )
  service_account: str = _flag(
    '',
    'jobset',
    'Kubernetes service account with rights to a bucket (default: default)',
    plain=True,
  )
  image: str = _flag('', 'slurm jobset tpu_vm', 'container image; launch/README.md builds one')
  setup: str = _flag('', 'slurm skypilot tpu_vm', 'shell command that each machine runs first')
  interface: str = _flag(
    '', 'slurm', 'network interface of the coordinator, such as ib0', plain=True
  )
  time: str = _flag('', 'slurm', 'limit, as in 24:00:00', plain=True)
  partition: str = _flag('', 'slurm', plain=True)
  account: str = _flag('', 'slurm', plain=True)
  zone: str = _flag('', 'skypilot tpu_vm', plain=True)
  spot: bool = _flag(False, TPUS, 'machines that may be taken away')
  restarts: int = _flag(3, REMOTE, 'after faults; preemption does not count', least=0)
  grace: int = _flag(
    0,
    'slurm jobset tpu_vm',
    'seconds to save in, after the signal (default: 60 in Slurm, 300 elsewhere)',
  )

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.metadata.get('plain') and not re.fullmatch(PLAIN, value):
        raise UserError(
          f"--{field.name} is {value!r}; it must be letters, digits and the signs in '_.,:+@/%=-'"
        )
      if isinstance(value, str) and field.name != 'setup' and not value.isprintable():
        raise UserError(f'--{field.name} is {value!r}; it must be one line of text')
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
    """Refuses a run folder that would be lost with its machine."""
    volumes = (posixpath.join(path, '') for _, path in self.volume)
    if not is_address(self.workdir) and not any(map(self.workdir.startswith, volumes)):
      raise UserError(
        f'--workdir={self.workdir} would be lost with its machine; put it in a bucket, as in '
        '--workdir=gs://BUCKET/runs/NAME, or on a volume that all of them share, as in '
        '--volume=SOURCE:/runs --workdir=/runs/NAME'
      )

  @property
  def in_store(self) -> bool:
    """Whether the run or its data are at addresses, of which each machine keeps copies."""
    return is_address(self.workdir) or is_address(self.data_dir)

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
