#!/bin/bash
#SBATCH --job-name={{ job.label }}
#SBATCH --nodes={{ job.nodes }}
#SBATCH --ntasks-per-node={{ job.processes }}
{% if job.gpus_per_node %}
#SBATCH --gpus-per-node={{ job.gpu ~ ':' if job.gpu }}{{ job.gpus_per_node }}
{% endif %}
{% if job.cpus %}
#SBATCH --cpus-per-task={{ job.cpus }}
{% endif %}
{% if job.time %}
#SBATCH --time={{ job.time }}
{% endif %}
{% if job.partition %}
#SBATCH --partition={{ job.partition }}
{% endif %}
{% if job.account %}
#SBATCH --account={{ job.account }}
{% endif %}
#SBATCH --output={{ job.label }}-%j.log
#SBATCH --open-mode=append
{# Without B: the processes get the signal; with it only this script would. #}
#SBATCH --signal=TERM@{{ notice }}
#SBATCH --requeue

# At the time limit each process saves its run and ends; this script must live to queue it again.
trap : TERM
{% if job.setup %}
{# In this script, so that all processes get what it exports, and on the other nodes. #}
{{ job.setup }}
{% if job.nodes > 1 %}
# The other nodes run it too.
# shellcheck disable=SC2016  # each fills in its own variables
srun --relative=1 --nodes={{ job.nodes - 1 }} --ntasks={{ job.nodes - 1 }} --ntasks-per-node=1 bash -c {{ job.setup | quote }}
{% endif %}
{% endif %}

# The first node's address, where the coordinator listens, and on no other.
{% if job.interface %}
address=$(ip -4 -o addr show dev {{ job.interface | quote }} | awk '{split($4, a, "/"); print a[1]; exit}')
{% else %}
node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
name=$(scontrol show node "$node" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
address=$(getent ahostsv4 "$name" | awk 'NR == 1 {print $1}')
# Debian tells a host that its own name is 127.0.1.1, where no other node reaches it.
if [ "$address" = 127.0.1.1 ]; then address=$(hostname -I | awk '{print $1}'); fi
{% endif %}
if [ -z "$address" ]; then
  echo "the first node has no address; give its network interface with --interface" >&2
  exit 2
fi
export JAX_COORDINATOR_ADDRESS=$address:$((61440 + SLURM_JOB_ID % 4096))
export JAX_COORDINATOR_BIND_ADDRESS=$JAX_COORDINATOR_ADDRESS

# A process that ends does not kill the others at once: they may still be saving.
# shellcheck disable=SC2016  # each process fills in its own numbers
srun --kill-on-bad-exit=0 --wait=120 --distribution=block \
{% if job.image %}
{% set mounts = job.volume | map('join', ':') | join(',') %}
  {{ ('--container-image=' ~ job.image) | quote }}{{ ' ' ~ ('--container-mounts=' ~ mounts) | quote if mounts }} \
{% endif %}
  bash -c {{ task | quote }}
code=$?
# Not running any more: it was cancelled, or Slurm itself has queued it again.
if ! scontrol show job "$SLURM_JOB_ID" | grep -q 'JobState=RUNNING'; then exit "$code"; fi
faults={{ job.label }}-$SLURM_JOB_ID.faults
case $code in
  0 | {{ USERS_FAULT }}) rm -f "$faults"; exit "$code" ;;
  {{ PREEMPTED }}) echo "preempted and saved: queued again" ;;
  *)
    echo "exit code $code" >> "$faults"
    if [ "$(wc -l < "$faults")" -gt {{ job.restarts }} ]; then exit "$code"; fi
    echo "failed with exit code $code: queued again" ;;
esac
scontrol requeue "$SLURM_JOB_ID"
exit "$code"
