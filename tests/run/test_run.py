"""The files of a run folder: read as they were written, and as far as they are good."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vit_jax import config
from vit_jax.errors import UserError
from vit_jax.layouts import files
from vit_jax.parallel.processes import Processes
from vit_jax.parallel.watchdog import Watchdog
from vit_jax.run.folder import Run
from vit_jax.run.identity import Identity
from vit_jax.run.predictions import Predictions, Raster

X = config.resolve(
  {
    'name': 'made_up',
    'steps': 10,
    'evals': {
      'test': {'split': 'test'},
      'val': {'split': 'val'},
      'other': {'kind': 'few_shot', 'data': 'digits'},
    },
    'checkpoint': {'best': 'val/top1'},
  }
)
IDENTITY = Identity(('Af', 'BWh', 'EF'), 75, 'f00d', 10)


def predicted(
  raster: Raster | None = None, palette: dict[str, list[str]] | None = None
) -> Predictions:
  rng = np.random.default_rng(0)
  label_N, prediction_N = rng.integers(0, 3, (2, 40))
  label_N[-1] = -1
  return Predictions(
    index_N=np.arange(40),
    label_N=label_N,
    prediction_N=prediction_N,
    confidence_N=rng.uniform(0.3, 1, 40),
    class_names=IDENTITY.class_names,
    images_SHWC=rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8),
    sample_S=np.array([3, 7]),
    raster=raster,
    palette=palette or {},
  )


def assert_same(found, expected) -> None:
  for field in dataclasses.fields(expected):
    value, wanted = getattr(found, field.name), getattr(expected, field.name)
    if dataclasses.is_dataclass(wanted):
      assert_same(value, wanted)
    else:
      np.testing.assert_array_equal(value, wanted)


@pytest.fixture
def path(tmp_path) -> Path:
  """The folder of a run that has ended."""
  run = Run(tmp_path / 'run')
  run.claim(X, IDENTITY)
  writer = run.metrics_writer(X, 0)
  for step in range(1, 11):
    writer.write(step, {'train/loss': 3 / step})
    if step % 5 == 0:
      writer.write(
        step, {'val/top1': step / 20, 'test/top1': step / 25, 'other/5-shot': step / 100}
      )
  writer.close()
  with Processes(X.limits) as here, Watchdog(here, run.path, 0.0, 0.0) as watch:
    log = run.event_log(watch)
    log.start(0, 1, 8)
    log.end(10, 0)
  run.write_predictions('val', predicted())
  run.write_evaluation(10, {'step': 10, 'test': {'top1': 0.5}})
  run.write_summary({'val': {'top1': 0.7}, 'test': {'top1': 0.6}, 'steps': 10})
  return run.path


def test_reads_what_was_written(path):
  run = Run(path)
  assert run.exists and run.name == 'made_up' and run.experiment == X
  assert run.identity == IDENTITY and run.class_names == IDENTITY.class_names
  steps, losses = run.series('train/loss')
  np.testing.assert_array_equal(steps, np.arange(1, 11))
  np.testing.assert_allclose(losses, 3 / np.arange(1, 11))
  assert run.last_step == 10 and run.features == {'other': ['5-shot']}
  assert run.summary['steps'] == 10 and run.result('val') == {'top1': 0.7}
  assert [event['event'] for event in run.events] == ['start', 'spent', 'end']
  assert run.evaluations == {10: {'step': 10, 'test': {'top1': 0.5}}}
  assert list(run.predictions) == ['val'] and run.faults == []
  assert_same(run.predictions['val'], predicted())
  known = run.predictions['val'].labeled_N
  assert known.sum() == 39 and not run.predictions['val'].correct_N[~known].any()


def test_nothing_is_made_by_looking(tmp_path):
  run = Run(tmp_path / 'none')
  assert not run.exists and not run.metrics and not run.summary and not run.predictions
  assert run.identity is None and not run.events and not run.evaluations and run.faults == []
  assert not run.path.exists()


def test_what_a_data_set_declares_comes_back(path):
  raster = Raster(np.arange(40), np.arange(40) * 2, 360, 720, 20, np.arange(40) % 2 == 0)
  palette = {'Af': ['#0000ff', 'tropical rainforest'], 'EF': ['#666666', 'ice cap']}
  run = Run(path)
  run.write_predictions('world', predicted(raster, palette))
  found = Run(path).predictions
  assert list(found) == ['val', 'world'] and found['val'].raster is None
  assert_same(found['world'], predicted(raster, palette))


def test_the_first_eval_is_the_one_of_the_recipe_although_json_sorts_keys(path):
  assert list(Run(path).config['evals']) == ['other', 'test', 'val']
  assert Run(path).evals == ['val', 'test']
  (path / 'summary.json').unlink()
  assert Run(path).evals == ['val', 'test']


def test_results_of_an_open_run_are_its_latest(path):
  (path / 'summary.json').unlink()
  run = Run(path)
  assert run.result('val') == {'top1': 0.5} and run.result('test') == {'top1': 0.4}


def test_a_bad_line_costs_that_line(path):
  text = (path / 'metrics.jsonl').read_text()
  whole = Run(path).metrics
  bad = '{"step": 11, "train/lo{"step": 11, "train/loss": 1}\n', '\xff\x00\n', '[3]\n', '{}\n'
  for line in (*bad, '{"step": "x"}\n', '{"step": 3, "train/loss": "high"}\n', '{"step": 11, "tr'):
    (path / 'metrics.jsonl').write_text(text + line, 'latin-1')
    run = Run(path)
    assert run.metrics == whole
    assert len(run.faults) == 1 and 'metrics.jsonl: line 13' in run.faults[0]
  # A row that was written twice counts as it was the last time; a number may be none.
  (path / 'metrics.jsonl').write_text(text + '{"step": 10, "train/loss": NaN}\n')
  assert np.isnan(Run(path).series('train/loss')[1][-1])


def test_a_log_that_was_cut_short_is_read_up_to_there(path):
  text = (path / 'events.jsonl').read_text()
  for line in ('{"event": "end", "ti', '{"event": "spent", "time": 3, "step": 4}\n', '\n7\n'):
    (path / 'events.jsonl').write_text(text + line)
    run = Run(path)
    assert len(run.events) == 3 and len(run.faults) == 1


def test_a_restart_keeps_rows_up_to_its_step(path):
  with open(path / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 11, "train/lo')
  writer = Run(path).metrics_writer(X, 5)
  writer.write(7, {'train/loss': 0.5})
  writer.close()
  run = Run(path)
  assert [row['step'] for row in run.metrics] == [1, 2, 3, 4, 5, 5, 7] and run.faults == []


@pytest.mark.parametrize('content', [b'', b'{"st', b'[]', b'\xff\xfe', b'PK\x03\x04'])
@pytest.mark.parametrize(
  'name, attribute',
  [
    ('summary.json', 'summary'),
    ('identity.json', 'identity'),
    ('evaluation-10.json', 'evaluations'),
    ('predictions/val.npz', 'predictions'),
  ],
)
def test_a_damaged_file_is_left_out_and_named(path, name, attribute, content):
  assert getattr(Run(path), attribute)
  (path / name).write_bytes(content)
  run = Run(path)
  assert not getattr(run, attribute)
  (fault,) = run.faults
  assert str(path / name) in fault and 'is damaged' in fault and '\n' not in fault


def test_predictions_that_lack_something_are_left_out(path):
  with np.load(path / 'predictions/val.npz') as stored:
    arrays = dict(stored)
  for wrong in ({'label_N': arrays['label_N'][1:]}, {'class_names': np.zeros(())}):
    np.savez(path / 'predictions/val.npz', **{**arrays, **wrong})
    run = Run(path)
    assert not run.predictions and len(run.faults) == 1
  del arrays['confidence_N']
  np.savez(path / 'predictions/val.npz', **arrays)
  run = Run(path)
  assert not run.predictions and 'confidence_N' in run.faults[0]


def test_nothing_is_unpickled(path, tmp_path):
  class Trap:
    def __reduce__(self):
      return (open, (str(tmp_path / 'sprung'), 'w'))

  with np.load(path / 'predictions/val.npz') as stored:
    arrays = {**stored, 'label_N': np.array([Trap()] * 40, dtype=object)}
  np.savez(path / 'predictions/val.npz', **arrays)
  with np.load(path / 'predictions/val.npz', allow_pickle=True) as stored:
    assert stored['label_N'] is not None  # the trap works
  (tmp_path / 'sprung').unlink()
  assert not Run(path).predictions
  assert not (tmp_path / 'sprung').exists()


@pytest.mark.parametrize(
  'break_it, told',
  [
    (lambda path: shutil.rmtree(path), 'there is no such folder'),
    (lambda path: (path / 'config.json').unlink(), 'has no config.json'),
    (lambda path: (path / 'config.json').write_text('{"name": "x"}'), 'config.json is damaged'),
    (lambda path: (path / 'config.json').write_text('{"name"'), 'config.json is damaged'),
    (lambda path: (path / 'config.json').write_text(''), 'config.json is damaged'),
  ],
)
def test_a_folder_without_its_recipe_is_refused(path, break_it, told):
  break_it(path)
  with pytest.raises(UserError) as caught:
    Run(path).config  # noqa: B018
  assert told in str(caught.value) and str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_file_is_replaced_whole_or_not_at_all(path):
  before = (path / 'predictions' / 'val.npz').read_bytes()
  with pytest.raises(AttributeError):
    Run(path).write_predictions('val', None)  # type: ignore[arg-type]
  with pytest.raises(KeyboardInterrupt), Run(path).figure('map') as file:
    file.write(b'half of')
    raise KeyboardInterrupt
  assert (path / 'predictions' / 'val.npz').read_bytes() == before
  assert [file for file in path.rglob('*') if 'tmp' in file.name or 'map' in file.name] == []


@pytest.mark.parametrize('key, package', [('tensorboard', 'tensorboardX'), ('wandb', 'wandb')])
def test_a_missing_package_is_one_sentence(key, package, tmp_path):
  if importlib.util.find_spec(package):
    pytest.skip(f'{package} is installed here')
  x = config.resolve({'steps': 1, 'log': {key: True}})
  with pytest.raises(UserError, match=f'config.log.{key} needs the package {package}'):
    Run(tmp_path).metrics_writer(x, 0)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['[exp] 1', 'a]', 'what?', 'all*', 'back\\slash', 'gs:/bucket'])
def test_a_path_that_checkpoints_could_not_be_read_back_from(name, tmp_path):
  for path in (tmp_path / name, tmp_path / name / 'run'):
    with pytest.raises(UserError, match='cannot be a run folder'):
      Run(path)
  assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_no_text(tmp_path):
  with pytest.raises(UserError, match='not UTF-8'):
    Run(tmp_path / 'x\udcff')


@pytest.mark.parametrize('address', ['hf://org/run', 'https://host/run'])
def test_an_address_of_no_store_is_no_run_folder(address):
  for typed in (address, Path(address)):
    with pytest.raises(UserError, match='cannot be a run folder'):
      Run(typed)


def test_home_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert Run('~/run').path == tmp_path / 'run'
  with pytest.raises(UserError, match='home folder'):
    Run('~nobody_of_that_name/run')


def test_a_checkpoint_is_exported(finished_run, tmp_path):
  """What the files mean is tested with the weights."""
  for which, step in (('last', 12), (8, 8)):
    line = Run(finished_run).export(tmp_path / f'{step}.npz', 'google', which)
    assert line.startswith(f'{finished_run} at step {step}: ')
  early, late = (files.read(tmp_path / f'{step}.npz') for step in (8, 12))
  assert early.keys() == late.keys()
  assert (early['head/kernel'] != late['head/kernel']).any()
  with pytest.raises(UserError, match='one of the steps'):
    Run(finished_run).export(tmp_path / 'a.npz', checkpoint=77)


def test_importing_it_changes_nothing(tmp_path):
  """Neither absl's logger, as it did, nor any other."""
  code = (
    'import logging, sys, absl.logging\n'
    'log = logging.getLogger("absl")\n'
    'def state(): return log.level, log.propagate, list(log.handlers), list(log.filters)\n'
    'before = state(); import vit_jax.run.folder; sys.exit(state() != before)'
  )
  assert subprocess.run([sys.executable, '-c', code], cwd=tmp_path).returncode == 0


def test_summary_is_json_that_a_person_reads(path):
  assert json.loads((path / 'summary.json').read_text()) == Run(path).summary
  assert (path / 'summary.json').read_text().count('\n') > 5
