"""Small translation runs on made-up pairs, for tests of runs, meshes and bad input."""

import json
import random
import shutil
from pathlib import Path

import jax
import numpy as np

from tests.data.made_up_pairs import write
from tests.fleet import Life, Nursery, result
from vit_jax import commands
from vit_jax.run import Run

BUCKETS = (6, 12)
RECIPE = """
from ml_collections import ConfigDict

MODELS = dict(
  rnn=dict(name='RNN-GRU', width=16, alignment='dot', dropout=0.1),
  transformer=dict(name='Transformer-tiny', width=16, depth=2, heads=2, mlp=32, dropout=0.1,
                   norm='pre', tied='target', unroll=False))


def get_config(system='rnn'):
  return ConfigDict(dict(
    name=f'translate_{{system}}', steps=10, batch_size=64, eval_batch_size=128,
    model=MODELS[system],
    data=dict(kind='pairs', name='pairs:' + {folder!r}, tokens='words', vocabulary=0,
              max_length=12, buckets={buckets!r}, row_multiple=8),
    loss=dict(label_smoothing=0.1),
    optim=dict(lr=3e-2, clip_norm=1.0, ema=0.5, warmup=dict(steps=2)),
    evals=dict(test=dict(kind='translate', split='test', every=dict(steps=5))),
    log=dict(every=dict(steps=3)),
    checkpoint=dict(every=dict(steps=2), minutes=0.0, keep_last=9, best='test/chrf')))
"""


def pairs(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
  """(sources, targets): one to nine letters each, and the same ones in upper case, turned round."""
  rng = random.Random(seed)
  sources = [rng.choices('abcdefgh', k=rng.randint(1, 9)) for _ in range(count)]
  return [' '.join(s) for s in sources], [' '.join(reversed(s)).upper() for s in sources]


def write_pairs(folder: Path, count: int = 60) -> Path:
  """A folder with `count` pairs to train on and 20 to test."""
  for split, number, seed in (('train', count, 0), ('test', 20, 1)):
    source, target = pairs(number, seed)
    write(folder, split, src=source, tgt=target)
  return folder


def write_recipe(path: Path, folder: Path) -> Path:
  """A recipe of these pairs; its argument is 'rnn' or 'transformer'."""
  path.write_text(RECIPE.format(folder=str(folder), buckets=BUCKETS))
  return path


def command(recipe: Path, run: Path, system: str = 'rnn', *flags: str) -> list[str]:
  """Trains; vocabularies are kept beside the run."""
  data_dir = f'--data_dir={run.parent / "data"}'
  return ['train', f'--config={recipe}:{system}', f'--workdir={run}', data_dir, *flags]


class Undisturbed:
  """A run that nothing disturbed, with a checkpoint every two steps."""

  def __init__(self, system: str, recipe: Path, nursery: Nursery, folder: Path):
    self.system, self.path = system, folder / 'run'
    argv = command(recipe, self.path, system)
    self.life = Life(nursery, folder / 'lives', argv)
    assert self.life.codes(300) == [0], self.life.logs()
    self.result = result(self.path)
    self.translations = Run(self.path).translations

  def assert_same(self, path: Path) -> None:
    state, rows, summary = result(path)
    expected = self.result[0]
    for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
      np.testing.assert_array_equal(leaf, wanted)
    assert rows == self.result[1]
    assert summary['test'] == self.result[2]['test']
    assert Run(path).translations == self.translations

  def cut(self, folder: Path, step: int) -> Path:
    """A copy that was killed right after the save of `step`."""
    shutil.copytree(self.path, folder / 'run')
    for path in (folder / 'run' / 'checkpoints').iterdir():
      if path.name.isdigit() and int(path.name) > step:
        shutil.rmtree(path)
    (folder / 'run' / 'summary.json').unlink()
    shutil.rmtree(folder / 'run' / 'translations')
    return folder / 'run'


def refused(argv: list[str], capsys) -> str:
  assert commands.main(argv) == 2
  error = capsys.readouterr().err
  assert error.startswith('vit_jax: ') and error.count('\n') == 1 and 'Traceback' not in error
  return error


def own_data(folder: Path, run: Path, tmp_path: Path) -> Path:
  """Moves a copy of a run to a copy of its data, which may then change."""
  own = tmp_path / 'pairs'
  shutil.copytree(folder, own)
  config = json.loads((run / 'config.json').read_text())
  config['data']['dir'] = str(own)
  (run / 'config.json').write_text(json.dumps(config))
  return own


def files(folder: Path) -> dict[str, bytes]:
  return {str(path): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}
