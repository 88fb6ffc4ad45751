"""Cloud TPU queued resources: a script that asks for a slice, trains, and asks again when it goes.

It runs where you run it, for as long as the job lasts (under tmux, or on a small machine in the
cloud). `gcloud ... ssh --worker=all` does not pass an exit code on, so each host leaves it in a
file.
"""

from __future__ import annotations

import shlex

from vit_jax.errors import PREEMPTED, USERS_FAULT, UserError
from vit_jax.launch.job import TPU_PORT, Job

USES = {'tpu', 'image', 'setup', 'volumes', 'zone', 'spot', 'restarts', 'grace'}
SUFFIX = '.sh'
GRACE = 300


def render(job: Job) -> str:
  """The text of a shell script."""
  if job.tpu is None or not job.zone or not job.image:
    raise UserError(
      'a TPU VM needs --topology, --zone and --image, as in --topology=v5e:4x4 '
      '--zone=us-west4-a --image=IMAGE'
    )
  job.check_workdir()
  return SCRIPT.format(
    name=job.label,
    zone=shlex.quote(job.zone),
    type=job.tpu.accelerator_type,
    runtime=job.tpu.generation.runtime,
    spot=' --spot' if job.spot else '',
    restarts=job.restarts,
    preempted=PREEMPTED,
    users_fault=USERS_FAULT,
    remote=shlex.quote(_remote(job)),
  )


def _remote(job: Job) -> str:
  """What each host runs: it starts the container, or joins it after a lost connection."""
  options = [
    '--detach',
    '--name=vit_jax',
    '--init',
    '--privileged',
    '--net=host',
    '--ulimit=memlock=-1',
    f'--stop-timeout={job.grace or GRACE}',
    *(shlex.quote(f'--volume={source}:{path}') for source, path in job.volumes),
  ]
  return REMOTE.format(
    setup=f'  {job.setup}\n' if job.setup else '',
    port=TPU_PORT,
    options=' \\\n    '.join(options),
    image=shlex.quote(job.image),
    command=job.command,
  )


REMOTE = """\
set -e
if ! sudo docker inspect vit_jax >/dev/null 2>&1; then
  rm -f /tmp/vit_jax.code
{setup}  address=$(hostname -I | cut -d" " -f1)
  sudo docker run {options} \\
    --env="JAX_COORDINATOR_BIND_ADDRESS=$address:{port}" \\
    {image} \\
    {command}
fi
sudo docker logs --follow vit_jax
sudo docker wait vit_jax | tee /tmp/vit_jax.code
sudo docker rm vit_jax"""

SCRIPT = """\
#!/bin/bash
# Runs until the training is done; the same script goes on after it was stopped.
set -uo pipefail
name={name}
zone={zone}
# shellcheck disable=SC2016  # each host fills in its own address
remote={remote}

state() {{ # of the slice; NONE: there is none, UNKNOWN: gcloud could not say
  local fault
  fault=$(mktemp)
  if gcloud compute tpus queued-resources describe "$name" --zone="$zone" \\
    --format='value(state.state)' 2>"$fault"; then :
  elif grep -q NOT_FOUND "$fault"; then echo NONE
  else cat "$fault" >&2; echo UNKNOWN
  fi
  rm -f "$fault"
}}

wait_until_active() {{ # asks for the slice where there is none, or one that was taken away
  while true; do
    case $(state) in
      ACTIVE) return ;;
      NONE)
        gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \\
          --accelerator-type={type} --runtime-version={runtime}{spot} || exit 1 ;;
      SUSPENDED) give_back; sleep 30 ;;
      FAILED) count_fault; give_back; sleep 30 ;;
      *) sleep 30 ;;
    esac
  done
}}

count_fault() {{ # ends where there were too many
  faults=$((faults + 1))
  if [ "$faults" -gt {restarts} ]; then give_back; exit 1; fi
}}

give_back() {{
  gcloud compute tpus queued-resources delete "$name" --zone="$zone" --quiet --force
}}

on_hosts() {{
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker="$1" --command="$2"
}}

faults=0
while true; do
  wait_until_active
  on_hosts all "$remote"
  code=$(on_hosts 0 'cat /tmp/vit_jax.code' || echo gone)
  case $code in
    0 | {users_fault}) give_back; exit "$code" ;;
  esac
  sleep 60 # a slice that is being taken away is still ACTIVE for a while
  if [ "$code" != {preempted} ] && [ "$(state)" = ACTIVE ]; then
    count_fault
  fi
done
"""
