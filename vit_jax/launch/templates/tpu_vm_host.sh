{# What each host runs: it starts the container, or joins it after a lost connection. #}
set -e
if ! sudo docker inspect vit_jax >/dev/null 2>&1; then
  rm -f /tmp/vit_jax.code
{% if job.setup %}
  {{ job.setup }}
{% endif %}
  address=$(hostname -I | cut -d" " -f1)
  sudo docker run --detach \
    --name=vit_jax \
    --init \
    --privileged \
    --net=host \
    --ulimit=memlock=-1 \
    --stop-timeout={{ grace }} \
{% for source, path in job.volume %}
    {{ ('--volume=' ~ source ~ ':' ~ path) | quote }} \
{% endfor %}
    --env="JAX_COORDINATOR_BIND_ADDRESS=$address:{{ port }}" \
    {{ job.image | quote }} \
    {{ job.command }}
fi
sudo docker logs --follow vit_jax
sudo docker wait vit_jax | tee /tmp/vit_jax.code
sudo docker rm vit_jax
