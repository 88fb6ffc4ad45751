"""Slurm: a batch script that saves before its time is over, queues itself again, and goes on."""

from __future__ import annotations

import shlex

from vit_jax.errors import PREEMPTED, USERS_FAULT, UserError
from vit_jax.launch.job import Job, join

USES = {
  'nodes',
  'processes',
  'gpus',
  'gpu',
  'cpus',
  'image',
  'setup',
  'volumes',
  'interface',
  'time',
  'partition',
  'account',
  'restarts',
  'grace',
}
SUFFIX = '.sbatch'
NOTICE = 60  # seconds before the time limit


def render(job: Job) -> str:
  """The text of a batch script."""
  if job.volumes and not job.image:
    raise UserError('--volume mounts into a container; add --image, or leave it out')
  if job.image:
    job.check_workdir()
  options = {
    'job-name': job.label,
    'nodes': job.nodes,
    'ntasks-per-node': job.processes,
    'gpus-per-node': (f'{job.gpu}:' if job.gpu else '') + str(job.gpus) if job.gpus else '',
    'cpus-per-task': job.cpus,
    'time': job.time,
    'partition': job.partition,
    'account': job.account,
    'output': f'{job.label}-%j.log',
    'open-mode': 'append',
    # Without B: the processes get the signal; with it only this script would.
    'signal': f'TERM@{job.grace or NOTICE}',
  }
  lines = [f'#SBATCH --{key}={value}' for key, value in options.items() if value]
  return SCRIPT.format(
    options='\n'.join([*lines, '#SBATCH --requeue']),
    setup=_setup(job),
    address=FROM_INTERFACE.format(interface=shlex.quote(job.interface))
    if job.interface
    else FROM_NODE,
    container=_container(job),
    task=shlex.quote(_task(job)),
    label=job.label,
    preempted=PREEMPTED,
    users_fault=USERS_FAULT,
    restarts=job.restarts,
  )


def _setup(job: Job) -> str:
  """In this script, so that all processes have what it exports, and on the other nodes."""
  setup = f'{job.setup}\n' if job.setup else ''
  if not setup or job.nodes == 1:
    return setup
  return setup + ON_OTHERS.format(others=job.nodes - 1, setup=shlex.quote(job.setup))


def _task(job: Job) -> str:
  """What each process runs. jax's own reading of Slurm would give each process one GPU."""
  each, devices = job.gpus // job.processes, ''
  if job.gpus and job.processes == 1:
    devices = f'JAX_LOCAL_DEVICE_IDS={join(job.devices_of(0))} '
  elif each == 1:
    devices = 'JAX_LOCAL_DEVICE_IDS=$SLURM_LOCALID '
  elif each:
    devices = (
      f'JAX_LOCAL_DEVICE_IDS=$(seq -s, $((SLURM_LOCALID * {each})) '
      f'$((SLURM_LOCALID * {each} + {each - 1}))) '
    )
  return f'JAX_NUM_PROCESSES=$SLURM_NTASKS JAX_PROCESS_ID=$SLURM_PROCID {devices}exec {job.command}'


def _container(job: Job) -> str:
  """Options of the pyxis plugin."""
  if not job.image:
    return ''
  mounts = ','.join(f'{source}:{path}' for source, path in job.volumes)
  flags = [f'--container-image={job.image}', *([f'--container-mounts={mounts}'] if mounts else [])]
  return f'  {shlex.join(flags)} \\\n'


ON_OTHERS = """\
# The other nodes run it too.
# shellcheck disable=SC2016  # each fills in its own variables
srun --relative=1 --nodes={others} --ntasks={others} --ntasks-per-node=1 bash -c {setup}
"""

FROM_INTERFACE = """\
address=$(ip -4 -o addr show dev {interface} | awk '{{split($4, a, "/"); print a[1]; exit}}')"""

FROM_NODE = """\
node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
name=$(scontrol show node "$node" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
address=$(getent ahostsv4 "$name" | awk 'NR == 1 {print $1}')
# Debian tells a host that its own name is 127.0.1.1, where no other node reaches it.
if [ "$address" = 127.0.1.1 ]; then address=$(hostname -I | awk '{print $1}'); fi"""

SCRIPT = """\
#!/bin/bash
{options}

# At the time limit each process saves its run and ends; this script must live to queue it again.
trap : TERM
{setup}
# The first node's address, where the coordinator listens, and on no other.
{address}
if [ -z "$address" ]; then
  echo "the first node has no address; give its network interface with --interface" >&2
  exit 2
fi
export JAX_COORDINATOR_ADDRESS=$address:$((61440 + SLURM_JOB_ID % 4096))
export JAX_COORDINATOR_BIND_ADDRESS=$JAX_COORDINATOR_ADDRESS

# A process that ends does not kill the others at once: they may still be saving.
# shellcheck disable=SC2016  # each process fills in its own numbers
srun --kill-on-bad-exit=0 --wait=120 --distribution=block \\
{container}  bash -c {task}
code=$?
# Not running any more: it was cancelled, or Slurm itself has queued it again.
if ! scontrol show job "$SLURM_JOB_ID" | grep -q 'JobState=RUNNING'; then exit "$code"; fi
faults={label}-$SLURM_JOB_ID.faults
case $code in
  0 | {users_fault}) rm -f "$faults"; exit "$code" ;;
  {preempted}) echo "preempted and saved: queued again" ;;
  *)
    echo "exit code $code" >> "$faults"
    if [ "$(wc -l < "$faults")" -gt {restarts} ]; then exit "$code"; fi
    echo "failed with exit code $code: queued again" ;;
esac
scontrol requeue "$SLURM_JOB_ID"
exit "$code"
"""
