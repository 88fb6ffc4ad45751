"""Slurm: a batch script that saves before its time limit, requeues itself, and continues."""

from vit_jax.errors import UserError
from vit_jax.launch import scripts
from vit_jax.launch.job import Job, join

SUFFIX = '.sbatch'
NOTICE = 60  # seconds before the time limit


def render(job: Job) -> str:
  """The text of a batch script."""
  if job.volume and not job.image:
    raise UserError('--volume mounts into a container; add --image, or leave it out')
  if job.image:
    job.check_workdir()
  return scripts.render('slurm.sh', job=job, notice=job.grace or NOTICE, task=_task(job))


def _task(job: Job) -> str:
  """What each process runs. jax's own detection of Slurm would give each process one GPU."""
  each, devices = job.gpus_per_node // job.processes, ''
  if job.gpus_per_node and job.processes == 1:
    devices = f'JAX_LOCAL_DEVICE_IDS={join(job.devices_of(0))} '
  elif each == 1:
    devices = 'JAX_LOCAL_DEVICE_IDS=$SLURM_LOCALID '
  elif each:
    devices = (
      f'JAX_LOCAL_DEVICE_IDS=$(seq -s, $((SLURM_LOCALID * {each})) '
      f'$((SLURM_LOCALID * {each} + {each - 1}))) '
    )
  return f'JAX_NUM_PROCESSES=$SLURM_NTASKS JAX_PROCESS_ID=$SLURM_PROCID {devices}exec {job.command}'
