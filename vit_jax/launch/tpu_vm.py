"""Cloud TPU queued resources: a script that asks for a slice, trains, and asks again when it goes.

The script runs where you start it, for as long as the job lasts (under tmux, or on a small machine
in the cloud). `gcloud ... ssh --worker=all` does not return the exit code, so each host writes it
to a file.
"""

from vit_jax.errors import UserError
from vit_jax.launch import scripts
from vit_jax.launch.job import TPU_PORT, Job

SUFFIX = '.sh'
GRACE = 300


def render(job: Job) -> str:
  """The text of a shell script."""
  if job.topology is None or not job.zone or not job.image:
    raise UserError(
      'a TPU VM needs --topology, --zone and --image, as in --topology=v5e:4x4 '
      '--zone=us-west4-a --image=IMAGE'
    )
  job.check_workdir()
  host = scripts.render('tpu_vm_host.sh', job=job, port=TPU_PORT, grace=job.grace or GRACE)
  return scripts.render('tpu_vm.sh', job=job, host=host.rstrip('\n'))
