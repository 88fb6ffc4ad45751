"""Every command that takes weights, a run folder or data, at addresses; and what is refused.

A run that was trained there is evaluated and reported in test_run_in_a_store.py.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import fsspec
import numpy as np
import pytest

from tests.remote.copies import copying, upload
from tests.weights.made_up import TINY, random_variables
from tests.weights.made_up_run import write_run
from vit_jax import commands, models
from vit_jax.data import datasets
from vit_jax.layouts import files
from vit_jax.remote.mirror import Mirror
from vit_jax.run import Run

MODEL = models.build('Ti/8', 3, **TINY)
STORE = 'memory://addresses'
RUN, DATA, MISSING = f'{STORE}/runs/vit', f'{STORE}/data', f'{STORE}/runs/nothing'
# What each holds, as its line says; the files are of step 2.
SOURCES = {
  RUN: f'{RUN} at step 4: ',
  f'{RUN}@best': f'{RUN} at step 2: ',
  f'{RUN}@2': f'{RUN} at step 2: ',
  f'{STORE}/w.npz': f'{STORE}/w.npz (Google ViT): ',
  f'{STORE}/w.safetensors': f'{STORE}/w.safetensors (timm ViT): ',
}
slow = pytest.mark.slow


class Here(NamedTuple):
  """What is on this host."""

  recipe: Path
  images: Path


@pytest.fixture(scope='module')
def here(tiny_recipe, tiny_folder, tmp_path_factory):
  """A run, weights of it and a prepared data set in the store, and what they are made from here."""
  folder = tmp_path_factory.mktemp('here')
  memory = fsspec.filesystem('memory')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('VIT_JAX_CACHE_DIR', str(folder / 'cache'))
    with copying(mirror := Mirror.at(RUN, 0)) as copies:
      steps = {
        step: (random_variables(MODEL, 16, step), top1) for step, top1 in ((2, 0.9), (4, 0.4))
      }
      named = dict(class_names=('dark', 'gray', 'light'), image_size=(16, 16))
      write_run(mirror.folder, steps, images=str(tiny_folder), **named)
      for step in steps:
        upload(copies, step)
    for name in ('w.npz', 'w.safetensors'):
      assert commands.main(['convert', f'--from={RUN}@2', f'--to={folder / name}']) == 0
      memory.put(str(folder / name), f'/addresses/{name}')
    datasets.prepare('digits', folder / 'data')
    memory.put(f'{folder}/data/', '/addresses/data/', recursive=True)
    yield Here(tiny_recipe, tiny_folder)
  memory.rm('/addresses', recursive=True)


@pytest.fixture
def new_host(here, cache, tmp_path, monkeypatch):
  """It has no copy of anything, and its current folder is empty."""
  monkeypatch.setenv('VIT_JAX_DATA_DIR', str(tmp_path / 'data'))
  (tmp_path / 'work').mkdir()
  monkeypatch.chdir(tmp_path / 'work')
  return here


# {0} stands for the source, {1} for what is on this host.
OF_WEIGHTS = {
  'convert': 'convert --from={0} --to=out.safetensors',
  'predict': 'predict --weights={0} --input {1.images}/test/dark/000.png',
  'export': 'export {0} --to=out --formats timm',
  'finetune_dry': 'finetune --weights={0} --data={1.images} --dry_run',
  'finetune': 'finetune --weights={0} --data={1.images} --workdir=tuned --config.steps=1',
  'train': 'train --config={1.recipe} --workdir=run --config.steps=1 --config.init_from={0}',
  'transfer': 'transfer --weights {0} --data digits --methods knn',
}
TRAINING = ('finetune', 'train', 'transfer')
OF_RUNS = {
  'evaluate': 'evaluate --workdir={0}',
  'report': 'report {0}',
  'table': 'report --table=vit_table6 {0}',
  'scaling': 'report --scaling {0}',
  'diff': 'train --config={1.recipe} --diff {0}',
}


def run(command: str, source: str, here: Here) -> int:
  return commands.main(command.format(source, here).split())


def refused(command: str, capsys) -> str:
  """The one sentence of a command that ends with exit code 2."""
  capsys.readouterr()
  assert commands.main(command.split()) == 2
  said = capsys.readouterr()
  assert said.err.startswith('vit_jax: ') and said.err.count('\n') == 1, said
  return said.err


@pytest.mark.parametrize('source', SOURCES)
@pytest.mark.parametrize(
  'name', [pytest.param(name, marks=slow) if name in TRAINING else name for name in OF_WEIGHTS]
)
def test_weights_at_an_address(new_host, name, source, capsys):
  assert run(OF_WEIGHTS[name], source, new_host) == 0
  said = capsys.readouterr().out
  if name == 'finetune_dry':  # whose line is of what it decides
    assert 'fine-tuning all of Ti/8' in said and f'"init_from": "{source}"' in said
  else:
    assert SOURCES[source] in said


@pytest.mark.parametrize(
  'source', [source for source in SOURCES if source.startswith(STORE + '/w')]
)
def test_the_same_weights_arrive(new_host, source):
  """Of a file as of the run's own checkpoint, to the bit."""
  assert run(OF_WEIGHTS['convert'], f'{RUN}@2', new_host) == 0
  expected = files.read(Path('out.safetensors'))
  assert run(OF_WEIGHTS['convert'], source, new_host) == 0
  found = files.read(Path('out.safetensors'))
  assert found.keys() == expected.keys()
  for name, leaf in found.items():
    np.testing.assert_array_equal(leaf, expected[name])
  assert run(OF_WEIGHTS['convert'], RUN, new_host) == 0
  assert any(
    (leaf != expected[name]).any() for name, leaf in files.read(Path('out.safetensors')).items()
  )


def test_a_recipe_beside_a_run_at_an_address(new_host, capsys):
  assert run(OF_RUNS['diff'], RUN, new_host) == 0
  rows = [line.split() for line in capsys.readouterr().out.splitlines()]
  assert ['key', 'tiny', RUN] in rows and ['steps', '12', '10'] in rows


@slow
def test_a_run_at_an_address_beside_a_paper(new_host, capsys):
  assert commands.main(['report', '--table=vit_table6', RUN]) == 0
  assert f'{RUN}: Ti/8 at 16x16 pixels on folder' in capsys.readouterr().out


@pytest.mark.parametrize('missing', [MISSING, f'{MISSING}@best', f'{STORE}/nothing.npz'])
@pytest.mark.parametrize('name', OF_WEIGHTS | OF_RUNS)
def test_nothing_is_there(new_host, name, missing, capsys):
  error = refused((OF_WEIGHTS | OF_RUNS)[name].format(missing, new_host), capsys)
  expected = f'there is no run folder or file {missing}'
  if missing.endswith('.npz'):
    expected = f'{missing} cannot be fetched: there is no such file'
  assert (f'{missing} is not a run folder' if name in OF_RUNS else expected) in error
  assert not list(Path.cwd().glob('**/checkpoints'))


@pytest.mark.parametrize('name', OF_WEIGHTS)
def test_a_checkpoint_that_is_not_there(new_host, name, capsys):
  error = refused(OF_WEIGHTS[name].format(f'{RUN}@77', new_host), capsys)
  assert "'77'; it must be 'last', 'best' or one of the steps 2, 4" in error


@pytest.mark.parametrize(
  'command, sentence',
  [
    ('prepare digits --data_dir={0}', 'are prepared on this machine; name a path, and copy'),
    ('prepare folder:{1.images} --to=x --data_dir={0}', 'are prepared on this machine'),
    ('bench --data={0} --model=Ti/16', 'prepare them'),
    ('finetune --weights={2} --data={0}', 'prepare them'),
    ('stats {0}', 'prepare them'),
    ('stats cifar10 --data_dir={0}', "'cifar10' is not at {0}; prepare it once"),
    ('sweep --config={1.recipe} --grid.seed=0,1 --workdir={0}', 'name a path, or another --target'),
    ('compare --config=lecture --workdir={0}', 'a path on this machine is needed'),
    ('transfer --weights {2} --data digits --workdir={0}', 'a path on this machine is needed'),
    ('export {2} --to={0}', 'a path on this machine is needed'),
    ('convert --from={2} --to={0}.npz', 'a path on this machine is needed'),
    ('predict --weights={2} --input={0}', 'a path on this machine is needed'),
    ('report {2} --page={0}.html', 'a path on this machine is needed'),
  ],
)
def test_a_path_is_needed(new_host, command, sentence, capsys):
  """One sentence, and nothing is written."""
  place = f'{STORE}/empty'
  error = refused(command.format(place, new_host, RUN), capsys)
  assert place in error and sentence.format(place) in error
  assert not fsspec.filesystem('memory').exists('/addresses/empty') and not list(Path().iterdir())


@pytest.mark.parametrize('flag', ['--workdir', '--data_dir'])
@pytest.mark.parametrize('target', ['local', 'jobset --image=x', 'skypilot', 'tpu_vm --zone=x'])
def test_launch_refuses_an_address_of_no_store(new_host, flag, target, capsys):
  """Before the job waits in a queue."""
  command = (
    f'launch --config={new_host.recipe.name} --target={target} --print {flag}=https://host/x'
  )
  shutil.copy(new_host.recipe, '.')
  assert 'https://host/x cannot be a run folder' in refused(command, capsys)


def test_launch_writes_both_slashes(new_host, capsys):
  shutil.copy(new_host.recipe, '.')
  flags = '--workdir=gs:/bucket/run/ --data_dir=gs:/bucket/data'
  command = f'launch --config=tiny.py --target=jobset --image=x --nodes=2 {flags}'
  assert commands.main(command.split()) == 0
  said = capsys.readouterr().out
  assert '--workdir=gs://bucket/run\n' in said and '--data_dir=gs://bucket/data\n' in said


def test_a_sweep_for_others_trains_at_an_address(new_host, capsys):
  command = (
    f'sweep --config={new_host.recipe} --grid.seed=0,1 --workdir={STORE}/sweep --target=slurm'
  )
  assert commands.main(command.split()) == 0
  for path in map(Path, capsys.readouterr().out.split()):
    assert f'--workdir={STORE}/sweep/{path.stem}' in path.read_text()


@slow
def test_launch_here_at_an_address(new_host, tmp_path, capfd):
  """Two processes of this host; a store that both see is needed, so it is a folder."""
  address = f'file://{tmp_path}/store/run'
  command = f'launch --config={new_host.recipe} --processes=2 --config.steps=4 --workdir={address}'
  assert commands.main(command.split()) == 0
  assert Run(address).summary['steps'] == 4


@slow
def test_the_loader_of_data_at_an_address(new_host, capsys):
  command = (
    f'bench --data=digits --data_dir={DATA} --model=LeNet-5 --batch=8 --image_size=32 --seconds=0.1'
  )
  assert commands.main(command.split()) == 0
  said = capsys.readouterr().out
  assert 'data: fetching 1 of 1 files of digits, train ' in said and 'digits (1,450 images)' in said
