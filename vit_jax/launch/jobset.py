"""Kubernetes JobSet (jobset.sigs.k8s.io, v1alpha2): a Job for each TPU slice, or one of GPU nodes.

The pods start and fail together. JobSet reads why a Job failed from the message that Kubernetes
gives when a rule of podFailurePolicy matches an exit code: preempted pods start again without
limit, a user's fault ends the JobSet, and anything else may happen `restarts` times.
"""

from typing import Any

from vit_jax.errors import PREEMPTED, USERS_FAULT, UserError
from vit_jax.launch import manifest
from vit_jax.launch.job import PORT, TPU_PORT, Job, join

SUFFIX = '.yaml'
GRACE = 300  # seconds, longer than a save
USER = 1000  # as in launch/Dockerfile
CACHE = '/cache'  # on the node's disk: copies of what is in a store
RULES = (
  ('preempted', 'RestartJobSetAndIgnoreMaxRestarts', PREEMPTED),
  ('users_fault', 'FailJobSet', USERS_FAULT),
)


def render(job: Job) -> str:
  """The text of a manifest."""
  if not job.image:
    raise UserError(
      '--image is missing: name a container image that holds vit_jax; '
      'launch/README.md says how to build one'
    )
  job.check_workdir()
  heading = (
    f'kubectl apply -f FILE; to stop it: kubectl delete jobset {job.label}\n'
    f'Exit code {PREEMPTED}, preempted and saved: starts again. {USERS_FAULT}, a fault in '
    'the input: ends.'
  )
  return manifest.dump(_jobset(job), heading)


def _jobset(job: Job) -> dict[str, Any]:
  # A slice must not be shared by two Jobs: its hosts make one network.
  placement = {'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool'}
  return {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': {'name': job.label, **({'annotations': placement} if job.topology else {})},
    'spec': {
      'network': {'enableDNSHostnames': True, 'publishNotReadyAddresses': True},
      'failurePolicy': {
        'maxRestarts': job.restarts,
        'rules': [
          {
            'name': name,
            'action': action,
            'onJobFailureReasons': ['PodFailurePolicy'],
            'onJobFailureMessagePatterns': [f'.* failed with exit code {code} .*'],
          }
          for name, action, code in RULES
        ],
      },
      'replicatedJobs': [
        {
          'name': 'train',
          'replicas': job.topology.groups if job.topology else 1,
          'template': {'spec': _job(job)},
        }
      ],
    },
  }


def _job(job: Job) -> dict[str, Any]:
  pods = job.topology.hosts if job.topology else job.nodes
  codes = {'containerName': 'train', 'operator': 'In', 'values': [USERS_FAULT, PREEMPTED]}
  return {
    'parallelism': pods,
    'completions': pods,
    'completionMode': 'Indexed',
    'backoffLimit': 0,  # a pod never comes back alone: the others have lost it
    'podFailurePolicy': {'rules': [{'action': 'FailJob', 'onExitCodes': codes}]},
    'template': {'spec': _pod(job)},
  }


def _pod(job: Job) -> dict[str, Any]:
  selector, devices = {}, {}
  if job.topology:
    selector = {
      'cloud.google.com/gke-tpu-accelerator': job.topology.cloud.selector,
      'cloud.google.com/gke-tpu-topology': job.topology.sides,
    }
    devices = {'google.com/tpu': job.topology.chips_per_host}
  elif job.gpus_per_node:
    selector = {'nvidia.com/gpu.product': job.gpu} if job.gpu else {}
    devices = {'nvidia.com/gpu': job.gpus_per_node}
  if job.spot:
    selector['cloud.google.com/gke-spot'] = 'true'
  resources: dict[str, Any] = {'limits': devices} if devices else {}
  if job.cpus:
    resources['requests'] = {'cpu': str(job.cpus)}
  names = {source: f'volume-{i}' for i, (source, _) in enumerate(job.volume)}
  mounts = [{'name': names[source], 'mountPath': path} for source, path in job.volume]
  volumes: list[dict[str, Any]] = [
    {'name': name, 'persistentVolumeClaim': {'claimName': source}} for source, name in names.items()
  ]
  if job.in_store:
    mounts.append({'name': 'cache', 'mountPath': CACHE})
    volumes.append({'name': 'cache', 'emptyDir': {}})
  return {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': job.grace or GRACE,
    # Clouds give the account's rights to a bucket without this token, which is for Kubernetes.
    'automountServiceAccountToken': False,
    **({'serviceAccountName': job.service_account} if job.service_account else {}),
    'securityContext': {
      'runAsNonRoot': True,
      'runAsUser': USER,
      'runAsGroup': USER,
      'fsGroup': USER,
      'seccompProfile': {'type': 'RuntimeDefault'},
    },
    **({'nodeSelector': selector} if selector else {}),
    'containers': [
      {
        'name': 'train',
        'image': job.image,
        'command': ['python', '-m', 'vit_jax', *job.arguments],
        'env': _environment(job),
        **({'envFrom': [{'secretRef': {'name': job.secret}}]} if job.secret else {}),
        **({'resources': resources} if resources else {}),
        'securityContext': {'allowPrivilegeEscalation': False, 'capabilities': {'drop': ['ALL']}},
        'volumeMounts': [*mounts, {'name': 'shared-memory', 'mountPath': '/dev/shm'}],  # nosec B108
      }
    ],
    'volumes': [*volumes, {'name': 'shared-memory', 'emptyDir': {'medium': 'Memory'}}],
  }


def _environment(job: Job) -> list[dict[str, Any]]:
  """On TPUs jax reads its place from what GKE sets; elsewhere these variables say it."""

  def field(path: str) -> dict[str, Any]:
    return {'valueFrom': {'fieldRef': {'fieldPath': path}}}

  port = TPU_PORT if job.topology else PORT
  variables: dict[str, str | dict[str, Any]] = {
    'POD_IP': field('status.podIP'),
    'JAX_COORDINATOR_BIND_ADDRESS': f'$(POD_IP):{port}',
  }
  if not job.topology:
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    variables |= {
      'JAX_COORDINATOR_ADDRESS': f'{job.label}-train-0-0.{job.label}:{port}',
      'JAX_NUM_PROCESSES': str(job.nodes),
      'JAX_PROCESS_ID': field(index),
    }
  if job.in_store:
    variables['VIT_JAX_CACHE_DIR'] = CACHE
  if job.gpus_per_node:
    variables['JAX_LOCAL_DEVICE_IDS'] = join(job.devices_of(0))
  return [
    {'name': name, **({'value': value} if isinstance(value, str) else value)}
    for name, value in variables.items()
  ]
