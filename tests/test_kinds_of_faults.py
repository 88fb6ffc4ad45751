"""Kinds of faults that storms found (tests/storm), each by a small sample."""

import errno
import json
import os
import socket
import stat

import numpy as np
import pytest

from tests.fleet import Life
from vit_jax import commands, config, errors, fields, reads
from vit_jax.config.recipes import load_comparison, load_sweep
from vit_jax.errors import UserError, verdict
from vit_jax.layouts import files
from vit_jax.redaction import one_line, redacted
from vit_jax.run import Run
from vit_jax.writes import replacing, write

SECRET = 'https://user:pw@host.org/a.npz?token=t0k'


@pytest.mark.parametrize(
  'values, key',
  [
    ({'optim': {'lr': float('inf')}}, 'config.optim.lr'),
    ({'optim': {'lr': 10**400}}, 'config.optim.lr'),
    ({'batch_size': 10**20}, 'config.batch_size'),
    ({'batch_size': 10**5000}, 'config.batch_size'),
    ({'steps': 3_000_000_000}, 'config.steps'),
    ({'batch_size': {1, 2}}, 'config.batch_size'),
    ({'name': b'x'}, 'config.name'),
    ({'optim': {'lr': 1j}}, 'config.optim.lr'),
    ({'evals': {'a.b': {}}}, 'config.evals'),
    ({'evals': {1: {}}}, 'config.evals'),
    ({'evals': {'..': {}}}, 'config.evals'),
    ({'evals': {'a/b': {}}}, 'config.evals.a/b'),
    ({'evals': {'x' * 300: {}}}, 'config.evals.x'),
    ({'evals': {'a\nb': {}}}, 'config.evals.a'),
    ({'data': {1: 2}}, 'config.data'),
    ({'evals': {'test': {'kind': 'predict', 'split': 'train'}}}, 'config.evals.test'),
  ],
)
def test_a_value_without_end_or_of_a_strange_type(values, key):
  with pytest.raises(UserError) as error:
    config.resolve({'steps': 1, **values})
  assert str(error.value).startswith(key) and len(str(error.value)) < 700


def test_a_length_of_more_steps_than_can_be_counted():
  with pytest.raises(UserError, match='epochs'):
    config.Duration(epochs=1e300).to_steps(128, 1000)
  assert config.Duration(epochs=3).to_steps(100, 1000) == 30


def test_digits_that_are_no_ascii_are_no_number():
  assert [fields.whole(text) for text in ('²', '١', '', '-1', '9' * 19, '07')] == [None] * 5 + [7]


@pytest.mark.parametrize(
  'text',
  [
    'raise RuntimeError("no luck")',
    'import sys; sys.exit(3)',
    'import neighbor',
    '{"steps": 1}',
    'def get_config():\n  return {"steps": 1}',
    'def get_config():\n  assert False',
    'def get_config():\n  raise ValueError("one\\ntwo")',
    'def get_config(a, b):\n  pass',
    'get_config = 3',
    'def (:',
  ],
)
def test_a_recipe_that_is_wrong_is_named(text, tmp_path, capsys):
  path = tmp_path / 'recipe.py'
  path.write_text(text)
  (tmp_path / 'neighbor.py').write_text('')
  assert commands.main(['launch', '--print', f'--config={path}']) == 2
  said = capsys.readouterr().err
  assert str(path) in said and said.count('\n') == 1


@pytest.mark.parametrize('value', ['None', '3', '"abc"', '{"optim.lr": 1}', '[3]', '[{1: 2}]'])
def test_a_list_of_a_recipe_that_is_none(value, tmp_path):
  path = tmp_path / 'recipe.py'
  path.write_text(f'def get_sweep():\n  return {value}\n\n\nget_comparison = get_sweep\n')
  for load in (load_sweep, load_comparison):
    with pytest.raises(UserError, match='must return'):
      load(str(path))


def test_secrets_of_addresses_are_hidden():
  assert redacted(SECRET) == 'https://***@host.org/a.npz?***'
  assert redacted({'a': [SECRET, 'augreg:B/16?ds=i1k', 'C:/x', 3]})['a'][1:] == [
    'augreg:B/16?ds=i1k',
    'C:/x',
    3,
  ]
  x = config.resolve({'steps': 1, 'init_from': SECRET})
  assert x.init_from == SECRET and 't0k' not in x.to_json() and 'pw@' not in x.to_json()


def test_a_refusal_is_one_line_without_secrets(capsys):
  errors.print_error(f'no {SECRET}\nvit_jax: all is well \x1b[2J')
  said = capsys.readouterr().err
  assert said.count('\n') == 1 and '\x1b' not in said and 't0k' not in said and 'pw@' not in said
  assert one_line('Köln\tx') == 'Köln\\tx'


def test_memory_that_ran_out_and_devices_that_are_not_there_are_sentences():
  def allocate():
    np.empty(2**60, np.uint8)

  with pytest.raises(MemoryError) as error:
    allocate()
  assert verdict(error.value)[0] == 1 and 'memory' in verdict(error.value)[1]
  assert verdict(RuntimeError('RESOURCE_EXHAUSTED: out of memory'))[0] == 1
  assert verdict(RuntimeError('a fault of ours')) == (1, None)


def test_a_file_is_replaced_whole_and_no_link_is_followed(tmp_path):
  path, other = tmp_path / 'out.csv', tmp_path / 'other'
  other.write_text('untouched')
  for name in ('out.csv.tmp', '.out.csv.part'):
    (tmp_path / name).symlink_to(other)
  path.write_text('old')
  with pytest.raises(ZeroDivisionError), replacing(path) as file:
    file.write(b'half')
    file.flush()
    assert path.read_text() == 'old'
    1 / 0  # noqa: B018
  assert path.read_text() == 'old'
  write(path, 'new')
  assert path.read_text() == 'new' and other.read_text() == 'untouched'
  assert len(os.listdir(tmp_path)) == 4


def test_what_killed_processes_left_of_a_file_is_removed(tmp_path):
  for age, name in ((10_000, '.out.csv.0.part'), (0, '.out.csv.1.part'), (10_000, '.b.0.part')):
    (tmp_path / name).write_text('')
    now = (tmp_path / name).stat().st_mtime
    os.utime(tmp_path / name, (now - age,) * 2)
  write(tmp_path / 'out.csv', 'new')
  assert sorted(os.listdir(tmp_path)) == ['.b.0.part', '.out.csv.1.part', 'out.csv']


def test_a_damaged_cache_is_made_again(tmp_path, caplog):
  path, made = tmp_path / 'cache' / 'kept.npz', []

  def make():
    made.append(1)
    return {'a': np.arange(100.0)}

  def kept():
    return files.kept(path, make, lambda stored: stored['a'].shape == (100,))['a']

  for _ in range(2):
    np.testing.assert_array_equal(kept(), np.arange(100.0))
  assert len(made) == 1 and not caplog.messages
  data = bytearray(path.read_bytes())
  data[400] ^= 4
  for damaged in (bytes(data), b'', data[:300]):
    path.write_bytes(damaged)
    np.testing.assert_array_equal(kept(), np.arange(100.0))
  assert len(made) == 4 and sum('made again' in message for message in caplog.messages) == 3


def test_an_archive_whose_end_is_cut_is_refused(tmp_path):
  path = tmp_path / 'weights.npz'
  files.write(path, {'a': np.ones(3)}, {'model': 'Ti/16'})
  whole = path.read_bytes()
  for damaged in (whole[:-1], whole[:-5], whole + b'\0'):
    path.write_bytes(damaged)
    with pytest.raises(UserError, match='its end'):
      files.read(path)


@pytest.mark.parametrize('flag', ['partition', 'account', 'time', 'gpu', 'interface'])
def test_no_line_is_added_to_a_job_script(flag, capsys):
  for value in ('a\n#SBATCH --wrap=id', 'a --exclusive', '$(id)', "a'b"):
    argv = ['launch', '--target=slurm', '--config=deit:B/16', f'--{flag}={value}']
    assert commands.main([*argv, '--gpus_per_node=1'] if flag == 'gpu' else argv) == 2
  assert commands.main(['launch', '--target=slurm', '--config=deit:B/16', '--partition=a,b']) == 0
  assert '#SBATCH --partition=a,b\n' in capsys.readouterr().out


def test_an_empty_image_is_counted_and_left_out(write_images, tmp_path, capsys):
  for split in ('train', 'test'):
    write_images(tmp_path / split, {'a': 3, 'b': 3})
  (tmp_path / 'train' / 'a' / '001.png').write_bytes(b'')
  argv = ['stats', f'folder:{tmp_path}', '--config.data.image_size=(8, 8)']
  assert commands.main(argv) == 0
  assert '1 could not be read' in capsys.readouterr().out


@pytest.mark.parametrize('kind', ['pipe', 'socket', 'device'])
def test_what_is_no_file_is_not_waited_for(kind, write_images, tmp_path, capsys):
  make = {
    'pipe': os.mkfifo,
    'socket': lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    'device': lambda path: path.symlink_to('/dev/zero'),
  }[kind]
  make(tmp_path / 'special')
  with pytest.raises(OSError) as error:
    reads.content(tmp_path / 'special')
  assert error.value.errno == errno.ENXIO
  if kind != 'device':
    with pytest.raises(UserError, match='cannot be written'):
      write(tmp_path / 'special', 'text')
  images = tmp_path / 'images'
  write_images(images, {'a': 3, 'b': 3})
  make(images / 'a' / 'x.png')
  assert commands.main(['stats', f'folder:{images}', '--config.data.image_size=(8, 8)']) == 0
  assert '1 pipes, sockets and devices' in capsys.readouterr().out
  assert reads.first_special(images) == images / 'a' / 'x.png'
  assert reads.first_special(images / 'b') is None
  run = Run(tmp_path / 'run')
  run.path.mkdir()
  make(run.path / 'metrics.jsonl')
  assert run.metrics == [] and 'cannot be read' in run.faults[0]
  make(run.path / 'config.json')
  assert not run.exists
  (run.path / 'checkpoints' / '1').mkdir(parents=True)
  make(run.path / 'checkpoints' / '1' / 'state')
  with pytest.raises(UserError, match='which no checkpoint has'):
    run.checkpoints(config.Checkpoint())


def test_a_number_beyond_all_floats_in_a_metric(tmp_path):
  rows = [{'step': 1, 'test/top1': 10**400}, {'step': 2, 'test/top1': 0.5}]
  (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  steps, values = Run(tmp_path).series('test/top1')
  assert steps.tolist() == [1, 2] and values.tolist() == [float('inf'), 0.5]


def test_a_port_that_is_in_use_is_named(lenet_recipe, nursery, tmp_path):
  with socket.socket() as held:
    held.bind(('127.0.0.1', 0))
    held.listen()
    address = f'127.0.0.1:{held.getsockname()[1]}'
    names = 'JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'
    env = dict(zip(names, (address, '2', '0'), strict=True))
    argv = ['train', f'--config={lenet_recipe}', f'--workdir={tmp_path / "run"}']
    life = Life(nursery, tmp_path / 'lives', argv, plant={0: {'env': env}})
    assert life.codes() == [2]
  assert f'cannot join the others at {address}' in life.log(0)
