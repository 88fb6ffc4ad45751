"""A stand-in for `python -m vit_jax train` that does in a moment what a test tells it to."""

from pathlib import Path

import pytest

from vit_jax import commands

ROOT = Path(__file__).parents[2]

STAND_IN = """
import json, os, pathlib, signal, sys, time

flags = dict(arg.lstrip('-').partition('=')[::2] for arg in sys.argv[2:])
index = os.environ.get('JAX_PROCESS_ID', '0')
workdir = pathlib.Path(flags['workdir'])
workdir.mkdir(parents=True, exist_ok=True)
variables = {k: v for k, v in os.environ.items() if k.startswith(('JAX_', 'CUDA_'))}
(workdir / f'process-{index}').write_text(json.dumps({'argv': sys.argv, 'variables': variables,
                                                      'pid': os.getpid(),
                                                      'cores': [*os.sched_getaffinity(0)]}))
def stop(*_):
  print('saved', flush=True)
  os._exit(75)
signal.signal(signal.SIGTERM, stop)
print(f'hello from {index}', flush=True)
exec(pathlib.Path(__file__).with_name('plot.py').read_text())
"""


@pytest.fixture
def launch(monkeypatch, capsys):
  """launch(*flags) -> (exit code, what it printed or complained about)."""
  monkeypatch.chdir(ROOT)

  def run(*flags: str) -> tuple[int, str]:
    code = commands.main(['launch', '--config=configs/fashion_mnist.py', *flags])
    return code, ''.join(capsys.readouterr())

  return run


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
  """stand_in(plot): from now on `python -m vit_jax` runs `plot`, which knows flags, index and
  workdir. Returns the folder it happens in."""
  folder = tmp_path / 'stand_in'

  def write(plot: str) -> Path:
    package = folder / 'vit_jax'
    package.mkdir(parents=True, exist_ok=True)
    (package / '__init__.py').touch()
    (package / '__main__.py').write_text(STAND_IN)
    (package / 'plot.py').write_text(plot)
    monkeypatch.chdir(folder)  # `python -m` looks here first
    return folder

  return write
