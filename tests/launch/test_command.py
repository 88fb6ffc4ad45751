"""`vit_jax launch`: flags that do not fit, and tools that are missing."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.launch.stand_ins import fake
from vit_jax import commands
from vit_jax.launch.job import Job
from vit_jax.parallel import topology

ROOT = Path(__file__).parents[2]
VOLUME = ('--volume=runs:/runs', '--workdir=/runs/x')
JOBSET = ('--target=jobset', '--image=i', *VOLUME)


@pytest.mark.parametrize(
  'flags, expected',
  [
    (('--target=slurm', '--config.optim.rl=1'), 'config.optim.rl'),
    (('--target=jobset', '--time=1:00'), '--time means nothing to --target=jobset'),
    (('--target=slurm', '--topology=v5e:2x2'), 'jobset, skypilot, tpu_vm'),
    (('--submit',), '--submit'),
    (('--restarts=-1',), '--restarts'),
    (('--nodes=2',), '--nodes means nothing to --target=local'),
    (('--target=slurm', '--gpus_per_node=8', '--processes=3'), '--processes=3'),
    (('--target=slurm', '--nodes=0'), '--nodes'),
    (('--target=slurm', '--volume=/data:/data'), '--image'),
    (('--target=slurm', '--image=i'), '--workdir'),
    (('--target=jobset', *VOLUME), '--image'),
    (('--target=jobset', '--image=i', '--volume=runs:/runs'), '--workdir'),
    ((*JOBSET, '--topology=v5e:16x16', '--gpus_per_node=8'), '--gpus_per_node and --topology'),
    ((*JOBSET, '--topology=v5e:16'), 'AxB'),
    ((*JOBSET, '--topology=v5x:4x4'), 'did you mean'),
    ((*JOBSET, '--topology=v5p:1x1x1'), '4 on each'),
    ((*JOBSET, '--topology=h100:8x2'), '--gpus_per_node'),
    ((*JOBSET, '--topology=tpu7x:2x2x1'), '--topology=tpu7x:2x2x1'),
    (
      ('--target=skypilot', '--topology=2*v5e:4x4', *VOLUME),
      '--topology=2*v5e:4x4: several slices are for --target=jobset',
    ),
    ((*JOBSET, '--volume=runs'), '--volume=runs'),
    (('--target=skypilot', '--gpus_per_node=8', *VOLUME), '--gpu is missing'),
    (('--gpu=H100',), '--gpu means nothing to --target=local'),
    (('--target=slurm', '--gpu=h100'), '--gpus_per_node'),
    ((*JOBSET, '--gpu=H100'), '--gpus_per_node'),
    (('--target=skypilot', '--gpu=H100', *VOLUME), '--gpus_per_node'),
    ((*JOBSET, '--topology=v5e:4x4', '--gpu=H100'), '--gpu and --topology'),
    (('--target=skypilot', '--topology=v5e:4x4', '--gpu=H100', *VOLUME), '--gpu and --topology'),
    ((*JOBSET, '--topology=v5e:4x4', '--nodes=2'), '--nodes=2'),
    (('--target=skypilot', '--topology=v5e:4x4', '--nodes=2', *VOLUME), '--nodes=2'),
    (('--target=tpu_vm', '--topology=v5e:4x4', *VOLUME), '--zone'),
    (('--target=kubernetes',), '--target'),
  ],
)
def test_faults_get_one_sentence(flags, expected, launch):
  code, text = launch(*flags)
  assert code == 2 and expected in text and text.count('\n') == 1


def test_a_recipe_of_this_machine_is_not_sent_elsewhere(tiny_recipe, capsys):
  assert commands.main(['launch', f'--config={tiny_recipe}', *JOBSET]) == 2
  assert 'is a path of this machine' in capsys.readouterr().err


@pytest.mark.parametrize('target', ['jobset', 'skypilot', 'tpu_vm', 'slurm'])
def test_a_run_in_a_bucket_needs_no_volume(target, launch):
  places = ('--workdir=gs://b/runs/x', '--data_dir=gs://b/data')
  more = {
    'jobset': ('--image=i',),
    'tpu_vm': ('--image=i', '--topology=v5e:4x4', '--zone=z'),
    'skypilot': ('--topology=v5e:4x4',),
    'slurm': ('--image=i',),
  }
  code, text = launch(f'--target={target}', *places, *more[target])
  assert code == 0 and all(place in text for place in places)
  assert 'file_mounts' not in text and '--volume' not in text
  if target == 'jobset':
    (job,) = yaml.safe_load(text)['spec']['replicatedJobs']
    pod = job['template']['spec']['template']['spec']
    (container,) = pod['containers']
    assert {'name': 'VIT_JAX_CACHE_DIR', 'value': '/cache'} in container['env']
    assert {'name': 'cache', 'mountPath': '/cache'} in container['volumeMounts']
    assert {'name': 'cache', 'emptyDir': {}} in pod['volumes']
  if target == 'skypilot':
    assert "'.[tpu,stores]'" in text


def test_several_slices_of_a_job_set(launch):
  code, text = launch(*JOBSET, '--topology=2*v5e:4x4')
  spec = yaml.safe_load(text)['spec']['replicatedJobs'][0]
  assert code == 0 and spec['replicas'] == 2 and spec['template']['spec']['parallelism'] == 4


def test_slices_of_a_pod():
  for name, hosts, accelerator in (
    ('v5e:16x16', 64, 'v5litepod-256'),
    ('v5e:2x4', 1, 'v5litepod-8'),
    ('v6e:8x8', 16, 'v6e-64'),
    ('v5p:4x4x8', 32, 'v5p-256'),
    ('v4:2x2x1', 1, 'v4-8'),
  ):
    found = topology.parse(name)
    assert (found.hosts, found.accelerator_type) == (hosts, accelerator)
    assert found.hosts * found.chips_per_host == found.chips


def test_long_names_stay_apart():
  names = [f'vit_i21k_L_16-a_rather_long_recipe,lr={lr}' for lr in ('1e-3', '3e-4')]
  labels = [Job(name, 'recipe.py', 'run').label for name in names]
  assert len(set(labels)) == 2 and all(len(label) <= 40 for label in labels)
  assert Job('16x16', 'recipe.py', 'run').label[0].isalpha()


@pytest.mark.parametrize(
  'target, tool, expected',
  [
    ('slurm', 'sbatch', 'sbatch FILE'),
    ('jobset', 'kubectl', 'kubectl apply -f FILE'),
    ('skypilot', 'sky', 'sky jobs launch --yes --detach-run FILE'),
  ],
)
def test_submit_hands_the_file_to_its_tool(target, tool, expected, tmp_path, monkeypatch, capfd):
  monkeypatch.chdir(tmp_path)
  shutil.copy(ROOT / 'configs' / 'fashion_mnist.py', tmp_path)
  flags = {'slurm': [], 'jobset': ['--image=i', *VOLUME], 'skypilot': [*VOLUME]}[target]
  argv = ['launch', f'--target={target}', '--config=fashion_mnist.py', *flags]
  fake(tmp_path / 'bin', 'cat', '')  # a PATH without the tool
  monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
  assert commands.main([*argv, '--submit']) == 2
  assert f'--submit needs {tool}, which is not on this machine' in capfd.readouterr().err

  monkeypatch.setenv('PATH', f'{tmp_path / "bin"}:/usr/bin:/bin')
  fake(tmp_path / 'bin', 'cat', 'exec /bin/cat "$@"')
  fake(tmp_path / 'bin', tool, 'echo "$(basename "$0") $*" >> called; cp "${!#}" submitted')
  assert commands.main([*argv, '--submit']) == 0
  [path] = (tmp_path / 'runs' / 'launch').iterdir()
  assert (tmp_path / 'called').read_text().strip() == expected.replace(
    'FILE', str(path.relative_to(tmp_path))
  )
  capfd.readouterr()
  assert commands.main(argv) == 0
  assert capfd.readouterr().out == (tmp_path / 'submitted').read_text()
  fake(tmp_path / 'bin', tool, 'exit 3')
  assert commands.main([*argv, '--submit']) == 1
