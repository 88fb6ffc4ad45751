#!/bin/bash
# Runs until the training is done; the same script continues after it was stopped.
set -uo pipefail
name={{ job.label }}
zone={{ job.zone | quote }}
# shellcheck disable=SC2016  # each host fills in its own address
remote={{ host | quote }}

state() { # of the slice; NONE: there is none, UNKNOWN: gcloud could not say
  local fault
  fault=$(mktemp)
  if gcloud compute tpus queued-resources describe "$name" --zone="$zone" \
    --format='value(state.state)' 2>"$fault"; then :
  elif grep -q NOT_FOUND "$fault"; then echo NONE
  else cat "$fault" >&2; echo UNKNOWN
  fi
  rm -f "$fault"
}

wait_until_active() { # asks for the slice where there is none, or one that was taken away
  while true; do
    case $(state) in
      ACTIVE) return ;;
      NONE)
        gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \
          --accelerator-type={{ job.topology.accelerator_type }} --runtime-version={{ job.topology.cloud.runtime }}{{ ' --spot' if job.spot }} || exit 1 ;;
      SUSPENDED) give_back; sleep 30 ;;
      FAILED) count_fault; give_back; sleep 30 ;;
      *) sleep 30 ;;
    esac
  done
}

count_fault() { # ends where there were too many
  faults=$((faults + 1))
  if [ "$faults" -gt {{ job.restarts }} ]; then give_back; exit 1; fi
}

give_back() {
  gcloud compute tpus queued-resources delete "$name" --zone="$zone" --quiet --force
}

on_hosts() {
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker="$1" --command="$2"
}

faults=0
while true; do
  wait_until_active
  on_hosts all "$remote"
  code=$(on_hosts 0 'cat /tmp/vit_jax.code' || echo gone)
  case $code in
    0 | {{ USERS_FAULT }}) give_back; exit "$code" ;;
  esac
  sleep 60 # a slice that is being taken away is still ACTIVE for a while
  if [ "$code" != {{ PREEMPTED }} ] && [ "$(state)" = ACTIVE ]; then
    count_fault
  fi
done
