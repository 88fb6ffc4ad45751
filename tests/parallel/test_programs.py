"""Programs are compiled once, within a limit, and nothing that ails their folder ends a command."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from vit_jax import commands

# Steps with donated state; prints what the cache did and every bit of the result.
SCRIPT = """
import json, logging, sys
import jax, jax.numpy as jnp
from jax import monitoring
from vit_jax.parallel import programs

programs.LEAST_SECONDS = 0.0
counts = dict(hits=0, misses=0)
def count(event, **_):
  for kind in counts:
    counts[kind] += event == f'/jax/compilation_cache/cache_{kind}'
monitoring.register_event_listener(count)
logging.basicConfig(stream=sys.stderr, format='%(message)s')
widths, limit = json.loads(sys.argv[1])
programs.keep_programs(limit)

def step(state, x):
  state = {'w': state['w'] - 0.1 * jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w) ** 2))(state['w'])}
  return state, jnp.sum(state['w'])

total = 0.0
for width in widths:
  step_fn = jax.jit(step, donate_argnums=0)
  state = {'w': jnp.ones((width, width)) / width}
  for _ in range(3):
    state, loss = step_fn(state, jnp.ones((4, width)))
  total += float(loss)
print(json.dumps(dict(counts, total=total.hex(), folder=jax.config.jax_compilation_cache_dir)))
"""


def start(home: Path, widths=(16,), limit=2**30, **env: str) -> subprocess.Popen:
  outer = {
    name: value for name, value in os.environ.items() if not name.startswith('JAX_COMPILATION')
  }
  keep = {'HOME': str(home), 'JAX_ENABLE_COMPILATION_CACHE': 'true', **env}
  return subprocess.Popen(
    [sys.executable, '-c', SCRIPT, json.dumps([widths, limit])],
    env=outer | {'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1'} | keep,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )


def finish(process: subprocess.Popen) -> tuple[dict, str]:
  out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err
  return json.loads(out), err


def programs_in(home: Path) -> list[Path]:
  return sorted((home / '.cache' / 'vit_jax' / 'programs').glob('*/*-cache'))


def test_a_second_process_compiles_nothing_and_computes_the_same(tmp_path):
  cold, warned = finish(start(tmp_path))
  assert cold['misses'] > 0 and not cold['hits'] and not warned
  warm, warned = finish(start(tmp_path))
  assert warm['hits'] == cold['misses'] and not warm['misses'] and not warned
  assert warm['total'] == cold['total']


def test_programs_beyond_the_limit_are_removed(tmp_path):
  finish(start(tmp_path, widths=(16,)))
  limit = sum(path.stat().st_size for path in programs_in(tmp_path))
  found, warned = finish(start(tmp_path, widths=(16, 24, 32, 40), limit=limit))
  assert found['misses'] > 0 and not warned
  assert 0 < sum(path.stat().st_size for path in programs_in(tmp_path)) <= limit


def test_two_processes_at_once(tmp_path):
  both = [start(tmp_path, widths=(16, 24)), start(tmp_path, widths=(16, 24))]
  (first, warned), (second, warned_too) = map(finish, both)
  assert not warned and not warned_too
  assert first['total'] == second['total']
  assert finish(start(tmp_path, widths=(16, 24)))[0]['misses'] == 0


def test_a_program_that_was_cut_short_is_compiled_again(tmp_path):
  cold, _ = finish(start(tmp_path))
  for path in programs_in(tmp_path):  # as a kill amid its writing leaves it
    path.write_bytes(path.read_bytes()[:100])
    path.with_name(path.name.removesuffix('-cache') + '-atime').unlink()
  again, warned = finish(start(tmp_path))
  assert again['misses'] == cold['misses'] and again['total'] == cold['total'] and not warned
  assert finish(start(tmp_path))[0]['hits'] == cold['misses']


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path):
  (tmp_path / '.cache').write_text('a file in its place')
  found, warned = finish(start(tmp_path))
  assert found['folder'] is None and not found['misses']
  assert warned.count('\n') == 1 and '.cache/vit_jax' in warned


@pytest.mark.parametrize('elsewhere', [True, False])
def test_the_user_decides(elsewhere, tmp_path):
  other = tmp_path / 'other'
  env = (
    {'JAX_COMPILATION_CACHE_DIR': str(other)}
    if elsewhere
    else {'JAX_ENABLE_COMPILATION_CACHE': 'false'}
  )
  found, _ = finish(start(tmp_path, **env))
  assert not programs_in(tmp_path)
  assert found['folder'] == (str(other) if elsewhere else None)


def test_another_processor_has_its_own(tmp_path, monkeypatch):
  from vit_jax.parallel import programs

  monkeypatch.setenv('HOME', str(tmp_path))
  here = programs.folder()
  monkeypatch.setattr(programs, '_processor', lambda: 'flags: sse2')
  assert programs.folder() != here and programs.folder().parent == here.parent


def stopped_at_once(recipe: Path, workdir: Path, home: Path) -> None:
  """Trains until the first line about a step, then asks it to save and stop."""
  outer = {name: value for name, value in os.environ.items() if not name.startswith('JAX_COMP')}
  process = subprocess.Popen(
    [sys.executable, '-m', 'vit_jax', 'train', f'--config={recipe}', f'--workdir={workdir}'],
    env={**outer, 'HOME': str(home)},
    text=True,
    stdout=subprocess.PIPE,
  )
  said = []
  for line in process.stdout:
    said.append(line)
    if line.startswith('step '):
      process.send_signal(signal.SIGTERM)
      break
  said.append(process.communicate(timeout=120)[0])
  assert process.returncode == 75, ''.join(said)


def test_a_resumed_run_does_not_compile_its_step_again(lenet_recipe, tmp_path):
  def steps() -> dict[Path, int]:
    """The compiled steps, and when each was last used."""
    found = [path for path in programs_in(tmp_path) if path.name.startswith('jit_train_step-')]
    used = [path.with_name(path.name.removesuffix('-cache') + '-atime') for path in found]
    return {path: path.stat().st_mtime_ns for path in used}

  stopped_at_once(lenet_recipe, tmp_path / 'run', tmp_path)
  before = steps()
  stopped_at_once(lenet_recipe, tmp_path / 'run', tmp_path)
  after = steps()
  assert before and after.keys() == before.keys()
  assert all(after[path] > before[path] for path in before)


@pytest.fixture
def unset():
  """No folder is named, as for a user; nothing is compiled meanwhile."""
  names = [f'jax_compilation_cache_{name}' for name in ('dir', 'max_size')]
  names += [
    f'jax_persistent_cache_{name}' for name in ('min_compile_time_secs', 'enable_xla_caches')
  ]
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update('jax_compilation_cache_dir', None)
  yield
  for name, value in before.items():
    jax.config.update(name, value)


@pytest.mark.parametrize(
  'argv',
  [
    ['train', '--config=folder', '--config.data.dir=none'],
    ['evaluate', '--workdir=none'],
    ['predict', '--weights=none', '--input=none'],
    ['transfer', '--weights', 'none', '--suite=offline'],
    ['compare', '--config=none.py'],
    ['report', 'none'],
  ],
  ids=lambda argv: argv[0],
)
def test_commands_that_compile_keep_their_programs(argv, unset, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.chdir(tmp_path)
  assert commands.main(argv) == 2  # there is no such thing, which they say before they compile
  assert jax.config.jax_compilation_cache_dir == str(*(tmp_path / '.cache/vit_jax').glob('*/*'))
