"""Which process this is, and where the others are: from variables, or from the cluster."""

import socket
from collections.abc import Mapping
from typing import NamedTuple

from jax._src import clusters  # what JAX detects has no public name

from vit_jax.errors import UserError
from vit_jax.fields import whole

ALL_INTERFACES = ('', '0.0.0.0', '::', '*')  # nosec B104
MOST = 2**31 - 1  # processes that JAX can count


class Place(NamedTuple):
  """Process `index` of `count`, whose coordinator is at `address`.

  Attributes:
    detection: the method by which JAX finds its devices; None is any.
  """

  address: str
  count: int
  index: int
  detection: str | None


def find(variables: Mapping[str, str], seconds: int) -> Place | None:
  """None if there is one process.

  JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say who they are; without these
  JAX's own detection does (Slurm, Open MPI, TPU pods, Kubernetes), within so many seconds.

  Raises:
    UserError: the variables are incomplete, or not an address and numbers.
  """
  return from_variables(variables) or _from_cluster(variables, seconds)


def from_variables(variables: Mapping[str, str]) -> Place | None:
  names = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
  given = [variables.get(name, '') for name in names]
  if not any(given):
    return None
  address, count, index = given[0], whole(given[1]), whole(given[2])
  if not address or count is None or index is None or not index < count <= MOST:
    values = ', '.join(f'{name}={value!r}' for name, value in zip(names, given, strict=True))
    raise UserError(f'{values} do not name a process; set all three, as in host:port, 4 and 0 to 3')
  # Without 'deactivate' JAX would take the device ids from the cluster around us as well.
  return None if count == 1 else Place(address, count, index, 'deactivate')


def _from_cluster(variables: Mapping[str, str], seconds: int) -> Place | None:
  """What JAX's own detection finds, if more than one process."""
  for cluster in clusters.ClusterEnv._cluster_types:
    if not cluster.opt_in_only_method and cluster.is_env_present():
      if cluster.get_process_count() == 1:
        return None
      address = cluster.get_coordinator_address(
        timeout_secs=seconds,
        override_coordinator_port=variables.get('JAX_COORDINATOR_PORT'),
      )
      return Place(address, cluster.get_process_count(), cluster.get_process_id(), None)
  return None


def bind_address(variables: Mapping[str, str], address: str) -> str:
  """host:port that the coordinator listens on: one interface of its host, never all of them.

  Raises:
    UserError: it is no such address.
  """
  bind = variables.get('JAX_COORDINATOR_BIND_ADDRESS') or address
  host, _, port = bind.rpartition(':')
  number = whole(port)
  if host.strip('[]') in ALL_INTERFACES or number is None or number >= 2**16:
    raise UserError(
      f'the coordinator would listen on {bind!r}; set JAX_COORDINATOR_BIND_ADDRESS '
      'to host:port of the one interface that the other processes reach'
    )
  return bind


def check_free(bind: str) -> None:
  """Raises an OSError unless a program can listen at host:port; JAX may end by a signal there."""
  host, _, port = bind.rpartition(':')
  family, kind, *_, address = socket.getaddrinfo(host.strip('[]'), int(port))[0]
  with socket.socket(family, kind) as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a run that has just ended
    probe.bind(address)
    probe.listen()
