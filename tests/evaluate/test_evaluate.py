"""`vit_jax evaluate` on a run folder: the run's own figures again, on other devices too."""

import json
import os
import shutil

import numpy as np
import pytest
import scipy.special

from vit_jax import commands
from vit_jax.config import ImageData
from vit_jax.data.sources import open_source
from vit_jax.evaluate.backbone import Pulse
from vit_jax.evaluate.sets import Part
from vit_jax.run import Run
from vit_jax.transfer.candidates import candidates

PROBES = {
  'few_shot': ['1-shot', '5-shot', '10-shot', '25-shot'],
  'knn': ['knn-10', 'knn-20'],
  'linear': ['linear'],
}
EVALS = ('test', *PROBES)


def test_evaluate_gives_the_figures_of_the_run(finished_run, tmp_path, capsys):
  run = tmp_path / 'run'
  shutil.copytree(finished_run, run)
  summary = json.loads((run / 'summary.json').read_text())
  assert summary['examples'] == 75  # of the training split
  rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  measured = {row['step']: row['test/top1'] for row in rows if 'test/top1' in row}
  assert list(measured) == [5, 10, 12]

  # Eight devices instead of one: the same counts.
  assert commands.main(['evaluate', f'--workdir={run}']) == 0
  output = capsys.readouterr().out
  assert '21 examples' in output and 'light' in output
  again = json.loads((run / 'evaluation-12.json').read_text())
  assert again == {
    'step': 12,
    'data': again['data'],
    **{name: pytest.approx(summary[name], abs=1e-6) for name in EVALS},
  }
  assert again['test']['top1'] == summary['test']['top1']
  assert again['test']['top5'] == summary['test']['top5']

  assert commands.main(['evaluate', f'--workdir={run}', '--checkpoint=best']) == 0
  kept = json.loads(max(run.glob('evaluation-*.json'), key=os.path.getmtime).read_text())
  assert kept['test']['top1'] == max(measured.values()) == measured[kept['step']]


def test_on_a_mesh_of_its_own(finished_run, tmp_path, capsys):
  run = tmp_path / 'run'
  shutil.copytree(finished_run, run)
  config = json.loads((run / 'config.json').read_text())
  config['mesh']['fsdp'] = 3  # of the machine that trained it
  (run / 'config.json').write_text(json.dumps(config))
  argv = ['evaluate', f'--workdir={run}']
  assert commands.main(argv) == 2 and 'does not multiply' in capsys.readouterr().err
  assert commands.main([*argv, '--config.mesh.fsdp=2']) == 0
  again = json.loads((run / 'evaluation-12.json').read_text())['test']
  assert again == pytest.approx(json.loads((run / 'summary.json').read_text())['test'], abs=1e-6)
  capsys.readouterr()
  assert commands.main([*argv, '--config.mesh.fsdp=2', '--config.seed=9']) == 2
  assert 'config.seed was' in capsys.readouterr().err


def test_features_are_judged_during_training_as_transfer_judges_them(
  finished_run, tiny_folder, tmp_path
):
  """`evals` of the recipe: after each evaluation, and beside it in the files."""
  summary = json.loads((finished_run / 'summary.json').read_text())
  judged = {f'{name}/{metric}': summary[name][metric] for name in PROBES for metric in PROBES[name]}
  assert all(set(summary[name]) == set(PROBES[name]) for name in PROBES)
  rows = [json.loads(line) for line in (finished_run / 'metrics.jsonl').read_text().splitlines()]
  rows = [row for row in rows if 'test/top1' in row]
  assert len(rows) == 3 and judged.items() <= rows[-1].items()

  path = tmp_path / 'rows.json'
  assert (
    commands.main(
      [
        'transfer',
        f'--weights={finished_run}',
        '--data',
        f'folder:{tiny_folder}',
        f'--json={path}',
        f'--data_dir={tmp_path}',
      ]
    )
    == 0
  )
  expected = [row['top1'] / 100 for row in json.loads(path.read_text())['rows']]
  assert list(judged.values()) == pytest.approx(expected, abs=1e-9)


def test_an_eval_that_cannot_be_made(tiny_recipe, write_images, tmp_path, capsys):
  """Data that is not there is said before training begins; too little of it, at the first eval."""
  write_images(tmp_path / 'few' / 'train', {'dark': 2, 'light': 2})
  write_images(tmp_path / 'few' / 'test', {'dark': 2, 'light': 2})
  for folder, words in (
    ('none', 'is not a folder'),
    ('few', 'too few examples of a class'),
  ):
    argv = [
      'train',
      f'--config={tiny_recipe}',
      f'--workdir={tmp_path / f"run_{folder}"}',
      '--config.steps=3',
      f'--config.evals.knn.data=folder:{tmp_path / folder}',
    ]
    assert commands.main(argv) == 2
    error = capsys.readouterr().err
    assert words in error, error


def test_the_loop_predict_and_transfer_see_the_same(finished_run, tiny_folder, tmp_path):
  """Images of 20 pixels, resized to 16: the same outputs, to rounding."""
  assert (
    commands.main(
      [
        'predict',
        f'--weights={finished_run}',
        f'--input={tiny_folder / "test"}',
        f'--output={tmp_path / "out.npz"}',
      ]
    )
    == 0
  )
  with np.load(tmp_path / 'out.npz') as arrays:
    out = dict(arrays)
  kept = Run(finished_run).predictions['test']
  share_NK = scipy.special.softmax(out['logits'].astype(np.float64), axis=1)
  # Sorted, for a folder's images come in an order of its own.
  np.testing.assert_allclose(np.sort(share_NK.max(1)), np.sort(kept.confidence_N), atol=1e-5)
  assert len(set(kept.confidence_N.round(4))) > 15
  (candidate,) = candidates([str(finished_run)], tmp_path, 8)
  source = open_source(ImageData(name='folder', dir=str(tiny_folder)), 'test', tmp_path)
  features_ND, _ = candidate.featured(Part('test', source), False).features(source, Pulse())
  expected_ND = np.sort(out['features'], axis=0)
  np.testing.assert_allclose(np.sort(features_ND, axis=0), expected_ND, atol=1e-4)


def test_seen_otherwise(finished_run, tmp_path, capsys):
  run = tmp_path / 'run'
  shutil.copytree(finished_run, run)
  argv = ['evaluate', f'--workdir={run}']
  assert commands.main([*argv, '--crop=0.5', '--interpolation=bilinear', '--mean=0.4']) == 0
  said = capsys.readouterr().out
  words = '16x16, crop 0.5, bilinear, mean 0.4, std 0.5'
  assert f'as its recipe, but for --mean, --crop, --interpolation: {words}' in said
  again = json.loads((run / 'evaluation-12.json').read_text())
  summary = json.loads((run / 'summary.json').read_text())
  assert again['sees'] == words and again['test']['loss'] != summary['test']['loss']
  assert Run(run).experiment.images.eval_crop == 1.0
  for flag, sentence in (('--crop=2', '--crop is 2.0'), ('--mean=1,2', '--mean has 2 numbers')):
    assert commands.main([*argv, flag]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count('\n') == 1
