from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from made_up_run import predictions

from vit_jax.errors import UserError
from vit_jax.report.run import read_run


def test_reads_what_was_written(write_run):
  arrays = predictions(40, positions=[(20 * i, 0) for i in range(10)] * 4)
  run = read_run(write_run(files={'val': predictions(30), 'world': arrays}))
  steps, losses = run.series('train/loss')
  np.testing.assert_array_equal(steps, np.arange(1, 11))
  np.testing.assert_allclose(losses, 3 / np.arange(1, 11))
  assert run.last_step == 10
  assert list(run.predictions) == ['val', 'world']
  assert run.predictions['val'].raster is None
  raster = run.predictions['world'].raster
  assert raster is not None and (raster.height, raster.width, raster.patch) == (360, 720, 20)
  np.testing.assert_array_equal(run.predictions['world'].prediction_N, arrays['prediction_N'])
  known = arrays['label_N'] >= 0
  assert (
    run.predictions['world'].correct_N.sum()
    == (arrays['label_N'] == arrays['prediction_N'])[known].sum()
  )


def test_the_first_eval_is_the_one_of_the_recipe_although_json_sorts_keys(write_run):
  assert read_run(write_run('ended')).evals == ['val', 'test']
  assert read_run(write_run('open', ended=False)).evals == ['val', 'test']


def test_a_line_that_a_crash_cut_short_is_passed_over(write_run):
  path = write_run() / 'metrics.jsonl'
  whole = read_run(path.parent).metrics
  text = path.read_text()
  path.write_text(text + text.splitlines()[0][:25])
  assert read_run(path.parent).metrics == whole
  # The same line with the first one of the restarted run behind it, and a row logged twice.
  path.write_text(
    text
    + '{"step": 11, "train/lo'
    + '{"step": 11, "train/loss": 1}\n'
    + '{"step": 10, "train/loss": 7.5}\n'
  )
  steps, losses = read_run(path.parent).series('train/loss')
  assert steps.tolist() == list(range(1, 11)) and losses[-1] == 7.5


def test_results_of_an_open_run_are_its_latest(write_run):
  run = read_run(write_run(ended=False))
  assert not run.summary and not run.predictions
  assert run.result('val')['top1'] == pytest.approx(0.1)
  assert run.result('test')['ece'] == pytest.approx(0.2)
  ended = read_run(write_run('ended', top1=0.71))
  assert ended.result('val')['top1'] == 0.71


def test_config_alone_is_enough(write_run):
  path = write_run(ended=False)
  (path / 'metrics.jsonl').unlink()
  shutil.rmtree(path / 'predictions')
  run = read_run(path)
  assert run.name == 'a_run' and run.last_step == 0 and not run.result('val')
  assert len(run.series('train/loss')[0]) == 0


@pytest.mark.parametrize(
  'break_it, told',
  [
    (lambda path: shutil.rmtree(path), 'is not a folder'),
    (lambda path: (path / 'config.json').unlink(), 'holds no config.json'),
    (lambda path: (path / 'config.json').write_text('{"name": "x"}'), 'is not a run folder'),
    (lambda path: (path / 'config.json').write_text('{"name"'), 'config.json is damaged'),
    (lambda path: (path / 'summary.json').write_text('[]'), 'summary.json is damaged'),
    (lambda path: (path / 'predictions/val.npz').write_bytes(b'PK\x03\x04'), 'val.npz is damaged'),
    (
      lambda path: np.savez(path / 'predictions/val.npz', label_N=np.zeros(3)),
      'val.npz is damaged',
    ),
  ],
)
def test_faults_are_told_in_one_sentence(write_run, break_it, told):
  path = write_run()
  read_run(path)
  break_it(path)
  with pytest.raises(UserError) as caught:
    read_run(path)
  assert told in str(caught.value) and str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


def test_nothing_is_unpickled(write_run, tmp_path):
  class Trap:
    def __reduce__(self):
      return (open, (str(tmp_path / 'sprung'), 'w'))

  arrays = predictions(10)
  arrays['label_N'] = np.array([Trap()] * 10, dtype=object)
  path = write_run(files={'val': arrays})
  with np.load(path / 'predictions/val.npz', allow_pickle=True) as stored:
    assert stored['label_N'] is not None  # the trap works
  (tmp_path / 'sprung').unlink()
  with pytest.raises(UserError, match='val.npz is damaged'):
    read_run(path)
  assert not (tmp_path / 'sprung').exists()


def test_metrics_of_a_diverged_run_are_read(write_run):
  path = write_run(ended=False)
  with open(path / 'metrics.jsonl', 'a') as file:
    file.write(json.dumps({'step': 11, 'train/loss': float('nan')}) + '\n')
  assert np.isnan(read_run(path).series('train/loss')[1][-1])
