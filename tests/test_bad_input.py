"""Bad input to a real command: one plain sentence, exit code 2, nothing lost.

Faults in keys are in test_config.py, faults in stored data in tests/data/.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet import Life, run_to_end
from vit_jax import commands


def refused(argv: list[str], capsys) -> str:
  """Runs a command that must be refused; returns the sentence."""
  assert commands.main(argv) == 2
  error = capsys.readouterr().err
  assert error.startswith('vit_jax: ') and error.count('\n') == 1 and 'Traceback' not in error
  return error


def train(recipe: Path, workdir: Path, *flags: str) -> list[str]:
  return ['train', f'--config={recipe}', f'--workdir={workdir}', '--config.steps=2', *flags]


def files(folder: Path) -> dict[str, bytes]:
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def test_batch_not_divisible_by_the_mesh(tiny_recipe, tmp_path, capsys):
  error = refused(train(tiny_recipe, tmp_path / 'run', '--config.batch_size=12'), capsys)
  assert 'config.batch_size is 12, which is not divisible by 8' in error


def test_mesh_that_does_not_fit(tiny_recipe, tmp_path, capsys):
  error = refused(train(tiny_recipe, tmp_path / 'run', '--config.mesh.fsdp=3'), capsys)
  assert 'does not multiply to the 8 devices here' in error


def test_missing_data_set(tiny_recipe, tmp_path, capsys):
  error = refused(
    train(
      tiny_recipe,
      tmp_path / 'run',
      '--config.data.name=cifar10',
      f'--data_dir={tmp_path / "empty"}',
    ),
    capsys,
  )
  assert 'cifar10' in error and 'prepare' in error


def test_missing_folder(tiny_recipe, tmp_path, capsys):
  gone = tmp_path / 'gone'
  assert str(gone) in refused(
    train(tiny_recipe, tmp_path / 'run', f'--config.data.dir={gone}'), capsys
  )


def test_unreadable_image(lenet_recipe, write_images, nursery, tmp_path):
  images = tmp_path / 'images'
  for split in ('train', 'test'):
    write_images(images / split, {'a': 9, 'b': 9})
  broken = images / 'train' / 'a' / '003.png'
  broken.write_bytes(broken.read_bytes()[:60])
  argv = train(lenet_recipe, tmp_path / 'run', f'--config.data.dir={images}')
  life = Life(nursery, tmp_path / 'lives', argv)
  assert life.codes() == [2], life.logs()
  error = life.log(0)[life.log(0).index('vit_jax: ') :]
  assert '003.png' in error and 'skip' in error and error.count('\n') == 1
  argv = train(
    lenet_recipe,
    tmp_path / 'other',
    f'--config.data.dir={images}',
    '--config.data.on_bad_record=skip',
  )
  assert '1 records could not be decoded' in run_to_end(nursery, tmp_path / 'lives', argv)


@pytest.mark.parametrize('kind', ['classify', 'predict'])
def test_a_split_that_is_not_there_is_refused_before_training(kind, lenet_recipe, tmp_path, capsys):
  run = tmp_path / 'run'
  flags = (
    '--config.batch_size=16',
    '--config.eval_batch_size=16',
    f'--config.evals.other.kind={kind}',
  )
  argv = train(lenet_recipe, run, *flags)
  assert "'tset'" in refused([*argv, '--config.evals.other.split=tset'], capsys)
  assert files(run) == {}
  for split in ('test', 'train'):  # it decides no result, and may change
    assert commands.main([*argv, f'--config.evals.other.split={split}']) == 0


def test_a_refused_command_leaves_the_run_as_it_was(tiny_recipe, finished_run, capsys):
  before = files(finished_run)
  argv = ['train', f'--config={tiny_recipe}', f'--workdir={finished_run}']
  assert 'does not multiply' in refused([*argv, '--config.mesh.fsdp=3'], capsys)
  assert files(finished_run) == before


def test_model_option_misspelled(tiny_recipe, tmp_path, capsys):
  error = refused(train(tiny_recipe, tmp_path / 'run', '--config.model.widht=64'), capsys)
  assert "'width'" in error


def test_run_folder_of_another_experiment_is_kept(tiny_recipe, finished_run, capsys):
  before = files(finished_run)
  error = refused(train(tiny_recipe, finished_run, '--config.model.width=64'), capsys)
  assert 'config.model.width was 32 and is now 64' in error
  assert files(finished_run) == before


def test_checkpoint_of_another_model(finished_run, tmp_path, capsys):
  """The run folder's config.json was swapped for another model's."""
  swapped = tmp_path / 'swapped'
  shutil.copytree(finished_run, swapped)
  text = json.loads((swapped / 'config.json').read_text())
  text['model']['width'] = 64
  (swapped / 'config.json').write_text(json.dumps(text))
  before = files(swapped)
  error = refused(['evaluate', f'--workdir={swapped}'], capsys)
  assert 'belongs to another model' in error and 'embedding' in error
  assert files(swapped) == before


@pytest.mark.parametrize(
  'text',
  ['', '{"loss": {}, "mod', '[]', '{"model": {"name": "Ti/16"}}', '{"loss": {}, "model": 3}'],
)
def test_a_damaged_recipe_of_a_run(tmp_path, text, capsys):
  (tmp_path / 'config.json').write_text(text)
  for command in ('evaluate', '--workdir'), ('transfer', '--data=digits', '--weights'):
    *argv, flag = command
    assert 'config.json is damaged' in refused([*argv, f'{flag}={tmp_path}'], capsys)


def test_init_from_another_model(tiny_recipe, finished_run, tmp_path, capsys):
  error = refused(
    train(
      tiny_recipe, tmp_path / 'run', f'--config.init_from={finished_run}', '--config.model.depth=3'
    ),
    capsys,
  )
  assert 'does not fit the model' in error and 'encoder/blocks' in error


def test_init_from_nowhere(tiny_recipe, tmp_path, capsys):
  error = refused(train(tiny_recipe, tmp_path / 'run', '--config.init_from=nowhere'), capsys)
  assert 'there is no run folder or file nowhere' in error


def test_checkpoint_that_is_not_there(finished_run, capsys):
  error = refused(['evaluate', f'--workdir={finished_run}', '--checkpoint=77'], capsys)
  assert "--checkpoint is '77'; it must be 'last', 'best' or one of the steps 8, 12" in error


def test_run_folder_below_a_file(tiny_recipe, tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  assert 'is a file' in refused(train(tiny_recipe, tmp_path / 'file' / 'run'), capsys)


def on_a_disk(tmp_path: Path, mount: str, script: str) -> subprocess.CompletedProcess:
  """Runs a shell script that sees a file system of its own at tmp_path/disk."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  own = ['unshare', '--mount'] if os.geteuid() == 0 else ['unshare', '-Urm']
  if subprocess.run(
    [*own, 'mount', '-t', 'tmpfs', 'tmpfs', str(disk)], capture_output=True
  ).returncode:
    pytest.skip('this machine lets us mount no file system of our own')
  return subprocess.run(
    [*own, 'sh', '-c', f'mount -t tmpfs {mount} tmpfs {disk} && {script}'],
    capture_output=True,
    text=True,
    timeout=300,
  )


def python(argv: list[str]) -> str:
  return f'{sys.executable} -m vit_jax ' + ' '.join(f"'{arg}'" for arg in argv)


def test_full_disk_keeps_what_was_saved(lenet_recipe, nursery, tmp_path):
  flags = (
    '--config.steps=40',
    '--config.checkpoint.keep_last=100',
    '--config.evals.test.every.steps=0',
    '--config.checkpoint.every.steps=2',
  )
  run, rescued = tmp_path / 'disk' / 'run', tmp_path / 'rescued'
  done = on_a_disk(
    tmp_path,
    '-o size=8m',
    python([*train(lenet_recipe, run), *flags]) + f'; code=$?; cp -r {run} {rescued}; exit $code',
  )
  assert done.returncode == 2, done.stderr
  assert 'the disk is full' in done.stderr and 'Traceback' not in done.stderr
  kept = max(int(path.name) for path in rescued.glob('checkpoints/*') if path.name.isdigit())
  again = run_to_end(nursery, tmp_path / 'lives', [*train(lenet_recipe, rescued), *flags])
  assert f'start: checkpoint of step {kept}' in again


def test_read_only_run_folder(lenet_recipe, tmp_path):
  done = on_a_disk(tmp_path, '-o ro', python(train(lenet_recipe, tmp_path / 'disk' / 'run')))
  assert done.returncode == 2, done.stderr
  assert 'read-only' in done.stderr and 'Traceback' not in done.stderr
