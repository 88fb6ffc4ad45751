"""What the launch commands print: checked against schemas, and equal to the committed examples."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from vit_jax import commands

ROOT = Path(__file__).parents[2]
[BASE_IMAGE] = re.findall(r'^FROM (.+)$', (ROOT / 'launch' / 'Dockerfile').read_text(), re.M)
KUBERNETES = '1.31'
README = (ROOT / 'launch' / 'README.md').read_text()
# Example file -> the command of the README that prints it.
COMMANDS = {
  Path(argv[-1]).name: argv[1:-2]
  for argv in (
    shlex.split(line)
    for line in README.replace('\\\n', ' ').splitlines()
    if re.match(r' +vit_jax launch .*> launch/examples/', line)
  )
}


def rendered(argv: list[str], capsys, monkeypatch) -> str:
  monkeypatch.chdir(ROOT)
  assert commands.main(argv) == 0
  return capsys.readouterr().out


def example(name: str) -> str:
  return (ROOT / 'launch' / 'examples' / name).read_text()


def tool(name: str, *argv: str, text: str | None = None) -> str:
  """What a linter complains about; empty if nothing."""
  program = Path(sys.executable).parent / name
  done = subprocess.run([program, *argv], input=text, capture_output=True, text=True, cwd=ROOT)
  assert done.returncode in (0, 1), done.stderr
  assert bool(done.stdout + done.stderr) == bool(done.returncode), done.stdout
  return done.stdout + done.stderr


def shell_faults(text: str) -> str:
  return tool('shellcheck', '--shell=bash', '--severity=style', '-', text=text)


def yaml_faults(text: str) -> str:
  return tool('yamllint', '--strict', '--config-file=launch/.yamllint', '-', text=text)


def docker_faults(text: str) -> str:
  return tool('hadolint', '-', text=text)


def schema_faults(document: dict[str, Any], schema: str) -> list[str]:
  """By one of the schemas beside this file; a JobSet's Job also by that of Kubernetes."""
  path = Path(__file__).with_name(f'{schema}.schema.json')
  faults = [
    error.message
    for error in jsonschema.Draft202012Validator(json.loads(path.read_text())).iter_errors(document)
  ]
  if schema == 'jobset' and not faults:
    for job in document['spec']['replicatedJobs']:
      try:
        kubernetes_validate.validate(
          {'apiVersion': 'batch/v1', 'kind': 'Job', 'metadata': {'name': 'job'}, **job['template']},
          KUBERNETES,
          strict=True,
        )
      except kubernetes_validate.ValidationError as error:
        faults.append(error.message)
  return faults


def test_every_target_has_an_example():
  assert set(COMMANDS) == {path.name for path in (ROOT / 'launch' / 'examples').iterdir()}
  assert {argv[1] for argv in COMMANDS.values()} == {
    f'--target={name}' for name in ('slurm', 'jobset', 'skypilot', 'tpu_vm')
  }


@pytest.mark.parametrize('name', COMMANDS)
def test_the_examples_are_what_the_commands_print(name, capsys, monkeypatch):
  text = rendered(COMMANDS[name], capsys, monkeypatch)
  if os.environ.get('UPDATE_GOLDEN'):
    (ROOT / 'launch' / 'examples' / name).write_text(text)
  assert text == example(name), (
    f'launch/examples/{name} is not what its command in launch/README.md prints; if that is what '
    'you want, run UPDATE_GOLDEN=1 pytest tests/launch/test_manifests.py'
  )


@pytest.mark.parametrize('name', [name for name in COMMANDS if name.endswith('.yaml')])
def test_yaml_has_no_faults(name):
  text = example(name)
  assert yaml_faults(text) == ''
  document = yaml.safe_load(text)
  assert schema_faults(document, name.split('_')[0]) == []
  if 'run' in document:
    assert shell_faults(document['run']) == '' and shell_faults(document['setup']) == ''


@pytest.mark.parametrize('name', [name for name in COMMANDS if not name.endswith('.yaml')])
def test_scripts_have_no_faults(name):
  text = example(name)
  assert shell_faults(text) == ''
  for inner in re.findall(r"(?:bash -c|^remote=)\s*('(?:[^']|'\"'\"')*')", text, re.MULTILINE):
    [script] = shlex.split(inner)
    assert shell_faults(script) == ''


def test_the_dockerfile_has_no_faults():
  assert docker_faults((ROOT / 'launch' / 'Dockerfile').read_text()) == ''
  assert re.fullmatch(r'\S+:\S+@sha256:[0-9a-f]{64}', BASE_IMAGE)


def test_our_own_scripts_have_no_faults():
  for path in (ROOT / '.ci' / 'run', *(ROOT / 'launch').glob('*.sh')):
    assert shell_faults(path.read_text()) == ''


@pytest.mark.parametrize(
  'right, typo, told',
  [
    ('maxRestarts', 'maxRestart', "'maxRestart' was unexpected"),
    ('FailJobSet', 'FailJobset', "'FailJobset' is not one of"),
    ('onJobFailureReasons', 'onJobFailureReason', "'onJobFailureReason' was unexpected"),
    ('backoffLimit', 'backofLimit', "'backofLimit' was unexpected"),
    ('podFailurePolicy', 'podFailurePolcy', "'podFailurePolcy' was unexpected"),
    ('terminationGracePeriodSeconds', 'terminationGracePeriod', 'was unexpected'),
    ('runAsNonRoot: true', 'runAsNonRoot: yes please', "'yes please' is not of type"),
    ('containerName', 'containername', "'containername' was unexpected"),
    ('nodeSelector', 'nodeselector', "'nodeselector' was unexpected"),
  ],
)
def test_a_planted_typo_in_a_jobset_is_caught(right, typo, told):
  text = example('jobset_tpu.yaml')
  assert right in text
  faults = schema_faults(yaml.safe_load(text.replace(right, typo)), 'jobset')
  assert any(told in fault for fault in faults), faults


@pytest.mark.parametrize(
  'right, typo',
  [
    ('num_nodes', 'num_node'),
    ('job_recovery', 'job_recover'),
    ('use_spot: true', 'use_spot: maybe'),
    ('mode: MOUNT', 'mode: MOUNTED'),
    ('H100:8', 'H100x8'),
    ('- 75', '- 750'),
  ],
)
def test_a_planted_typo_in_a_skypilot_task_is_caught(right, typo):
  mounts = 'file_mounts:\n  /runs:\n    source: gs://BUCKET\n    mode: MOUNT\n'
  text = example('skypilot_gpu.yaml').replace('setup:', f'{mounts}setup:')
  assert right in text
  assert schema_faults(yaml.safe_load(text.replace(right, typo)), 'skypilot')


@pytest.mark.parametrize(
  'name, right, typo, faults, told',
  [
    ('jobset_gpu.yaml', '\n  name:', '\n   name:', yaml_faults, 'indentation'),
    ('jobset_gpu.yaml', 'kind: JobSet', 'kind: JobSet\nkind: JobSet', yaml_faults, 'duplication'),
    ('slurm_gpu.sbatch', 'exit "$code"', 'exit "$coed"', shell_faults, 'SC2154'),
    ('slurm_gpu.sbatch', '"$SLURM_JOB_NODELIST"', '$SLURM_JOB_NODELIST', shell_faults, 'SC2086'),
    ('slurm_gpu.sbatch', '; then\n  echo', '\n  echo', shell_faults, 'SC1'),
    ('tpu_vm.sh', '"$remote"', '"$remot"', shell_faults, 'SC2154'),
    ('../Dockerfile', 'USER 1000', 'USER root', docker_faults, 'DL3002'),
    ('../Dockerfile', 'WORKDIR /opt', 'WORKDIR opt', docker_faults, 'DL3000'),
    ('../Dockerfile', BASE_IMAGE, 'python', docker_faults, 'DL3006'),
    ('../Dockerfile', 'COPY configs', 'COPPY configs', docker_faults, 'unexpected'),
  ],
)
def test_a_planted_fault_is_caught_by_its_linter(name, right, typo, faults, told):
  text = example(name)
  assert right in text
  assert told in faults(text.replace(right, typo))


def test_the_image_runs_as_the_user_of_the_pods():
  pod = yaml.safe_load(example('jobset_gpu.yaml'))['spec']['replicatedJobs'][0]['template']['spec'][
    'template'
  ]['spec']
  user = pod['securityContext']['runAsUser']
  dockerfile = (ROOT / 'launch' / 'Dockerfile').read_text()
  assert f'--uid={user} ' in dockerfile and f'\nUSER {user}\n' in dockerfile


def test_what_each_exit_code_does_in_a_jobset():
  """75 restarts without end, 2 ends the set; the messages are those Kubernetes gives."""
  spec = yaml.safe_load(example('jobset_gpu.yaml'))['spec']
  job = spec['replicatedJobs'][0]['template']['spec']
  [rule] = job['podFailurePolicy']['rules']
  assert rule['action'] == 'FailJob' and job['backoffLimit'] == 0

  def action(code: int) -> str:
    if code not in rule['onExitCodes']['values']:
      return 'RestartJobSet'  # the Job fails for its backoffLimit, and no rule matches that
    message = (
      f'Container train for pod default/run-train-0-1-x7k2p failed with exit code {code} '
      'matching FailJob rule at index 0'
    )
    return next(
      (
        policy['action']
        for policy in spec['failurePolicy']['rules']
        if any(re.search(p, message) for p in policy['onJobFailureMessagePatterns'])
      ),
      'RestartJobSet',
    )

  assert action(75) == 'RestartJobSetAndIgnoreMaxRestarts'
  assert action(2) == 'FailJobSet'
  assert action(1) == action(134) == action(137) == 'RestartJobSet'
  assert spec['failurePolicy']['maxRestarts'] == 3


def test_a_jobset_with_a_volume_and_an_account_of_its_own(capsys, monkeypatch):
  flags = '--volume=claim:/runs --workdir=/runs/x --service_account=trainer --nodes=2 --image=x'
  argv = ['launch', '--target=jobset', '--config=configs/fashion_mnist.py', *flags.split()]
  document = yaml.safe_load(rendered(argv, capsys, monkeypatch))
  assert schema_faults(document, 'jobset') == []
  pod = document['spec']['replicatedJobs'][0]['template']['spec']['template']['spec']
  assert pod['serviceAccountName'] == 'trainer'
  assert {'name': 'volume-0', 'persistentVolumeClaim': {'claimName': 'claim'}} in pod['volumes']
  [container] = pod['containers']
  assert {'name': 'volume-0', 'mountPath': '/runs'} in container['volumeMounts']
  assert 'envFrom' not in container  # no secret was named
