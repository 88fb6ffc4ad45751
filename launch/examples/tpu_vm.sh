#!/bin/bash
# Runs until the training is done; the same script continues after it was stopped.
set -uo pipefail
name=vit-i1k-b-16
zone=us-east5-b
# shellcheck disable=SC2016  # each host fills in its own address
remote='set -e
if ! sudo docker inspect vit_jax >/dev/null 2>&1; then
  rm -f /tmp/vit_jax.code
  address=$(hostname -I | cut -d" " -f1)
  sudo docker run --detach \
    --name=vit_jax \
    --init \
    --privileged \
    --net=host \
    --ulimit=memlock=-1 \
    --stop-timeout=300 \
    --env="JAX_COORDINATOR_BIND_ADDRESS=$address:8482" \
    REGISTRY/vit_jax:tpu \
    python -m vit_jax train --config=configs/vit_i1k.py:B/16 --workdir=gs://BUCKET/runs/b16 --data_dir=gs://BUCKET/data
fi
sudo docker logs --follow vit_jax
sudo docker wait vit_jax | tee /tmp/vit_jax.code
sudo docker rm vit_jax'

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
          --accelerator-type=v6e-64 --runtime-version=v2-alpha-tpuv6e --spot || exit 1 ;;
      SUSPENDED) give_back; sleep 30 ;;
      FAILED) count_fault; give_back; sleep 30 ;;
      *) sleep 30 ;;
    esac
  done
}

count_fault() { # ends where there were too many
  faults=$((faults + 1))
  if [ "$faults" -gt 3 ]; then give_back; exit 1; fi
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
    0 | 2) give_back; exit "$code" ;;
  esac
  sleep 60 # a slice that is being taken away is still ACTIVE for a while
  if [ "$code" != 75 ] && [ "$(state)" = ACTIVE ]; then
    count_fault
  fi
done
