"""SkyPilot: a managed job, which finds machines in any cloud, and others when they are taken."""

import shlex
from typing import Any

from vit_jax.errors import PREEMPTED, UserError
from vit_jax.launch import manifest
from vit_jax.launch.job import PORT, TPU_PORT, Job, join

SUFFIX = '.yaml'


def render(job: Job) -> str:
  """The text of a task."""
  if job.gpus_per_node and not job.gpu:
    raise UserError('--gpu is missing: SkyPilot looks for a kind of GPU, as in --gpu=H100')
  job.check_workdir()
  resources: dict[str, Any] = {}
  if job.topology:
    resources = {
      'accelerators': f'tpu-{job.topology.accelerator_type}',
      'accelerator_args': {'runtime_version': job.topology.cloud.runtime},
    }
  elif job.gpus_per_node:
    resources = {'accelerators': f'{job.gpu}:{job.gpus_per_node}'}
  if job.cpus:
    resources['cpus'] = f'{job.cpus}+'
  if job.zone:
    resources['zone'] = job.zone
  resources |= {
    'use_spot': job.spot,
    'job_recovery': {'max_restarts_on_errors': job.restarts, 'recover_on_exit_codes': [PREEMPTED]},
  }
  extras = ['tpu'] if job.topology else ['gpu'] if job.gpus_per_node else []
  extras += ['stores'] if job.in_store else []
  extra = f'[{",".join(extras)}]' if extras else ''
  setup = f'{job.setup}\n' if job.setup else ''
  mounts = {path: {'source': source, 'mode': 'MOUNT'} for source, path in job.volume}
  task = {
    'name': job.label,
    'num_nodes': job.nodes,
    'resources': resources,
    'workdir': '.',  # this checkout goes along, with its recipes
    **({'file_mounts': mounts} if mounts else {}),
    'setup': f"{setup}pip install -c constraints.txt -e '.{extra}'\n",
    'run': _run(job),
  }
  return manifest.dump(task, f'sky jobs launch FILE; to stop it: sky jobs cancel -n {job.label}')


def _command(job: Job) -> str:
  """The command with a line per flag."""
  command, *arguments = job.arguments
  return ' \\\n  '.join([f'exec python -m vit_jax {command}', *map(shlex.quote, arguments)])


def _run(job: Job) -> str:
  if job.topology:  # jax reads the rest from the machines' metadata
    return (
      'address=$(hostname -I | cut -d" " -f1)\n'
      f'export JAX_COORDINATOR_BIND_ADDRESS="$address:{TPU_PORT}"\n'
      f'{_command(job)}\n'
    )
  devices = f'export JAX_LOCAL_DEVICE_IDS={join(job.devices_of(0))}\n' if job.gpus_per_node else ''
  return (
    'first=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)\n'
    f'export JAX_COORDINATOR_ADDRESS="$first:{PORT}"\n'
    'export JAX_COORDINATOR_BIND_ADDRESS="$JAX_COORDINATOR_ADDRESS"\n'
    'export JAX_NUM_PROCESSES="$SKYPILOT_NUM_NODES"\n'
    'export JAX_PROCESS_ID="$SKYPILOT_NODE_RANK"\n'
    f'{devices}{_command(job)}\n'
  )
