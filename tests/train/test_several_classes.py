"""A table of images with several classes each: trained, measured, resumed, listed."""

import csv
import json

import cv2
import numpy as np

from vit_jax import commands
from vit_jax.run import Run

CLASSES = ('red', 'green', 'blue')


def table(folder, count=96):
  """Images that show each class as a channel that is bright, and one in eight shows none."""
  lines, rng = ['path,labels,split'], np.random.default_rng(0)
  for i in range(count):
    right_K = (i >> np.arange(3)) & 1
    image_HWC = rng.integers(0, 60, (16, 16, 3)) + 180 * right_K
    cv2.imwrite(str(folder / f'{i}.png'), image_HWC[..., ::-1].astype(np.uint8))
    names = '|'.join(name for name, right in zip(CLASSES, right_K, strict=True) if right)
    lines.append(f'{i}.png,{names},{"train" if i < 64 else "test"}')
  path = folder / 'labels.csv'
  path.write_text('\n'.join(lines))
  return path


def test_a_table_of_several_classes(tmp_path, tiny_recipe, capsys):
  argv = [
    'train', f'--config={tiny_recipe}', f'--workdir={tmp_path / "run"}', '--config.steps=60',
    f'--config.data.name=table:{table(tmp_path)}', '--config.data.label_separator=|',
    '--config.loss.name=sigmoid', '--config.loss.label_smoothing=0.0', '--config.augment.mixup=0.0',
    '--config.evals={"test": {}}', '--config.checkpoint.best=test/map',
  ]  # fmt: skip
  assert commands.main([*argv, '--config.optim.lr=1e-2']) == 0
  said = capsys.readouterr().out
  assert '3 classes; train 64, test 32' in said
  run = Run(tmp_path / 'run')
  result = run.result('test')
  assert result['map'] > 0.95 and result['f1'] > 0.8 and result['micro_f1'] > 0.8
  with open(tmp_path / 'run' / 'predictions' / 'test.classes.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['class'] for row in rows] == sorted(CLASSES)
  assert {int(row['images']) for row in rows} == {16}
  np.testing.assert_allclose(np.mean([float(row['ap']) for row in rows]), result['map'])
  found = run.predictions['test']
  np.testing.assert_allclose(found.correct_N[found.labeled_N].mean(), result['top1'])
  assert len(found.mistakes) == (~found.correct_N[found.labeled_N]).sum()
  assert commands.main(['evaluate', f'--workdir={tmp_path / "run"}']) == 0
  said = capsys.readouterr().out
  assert f'map {result["map"]:.4f}' in said and 'images' in said
  assert commands.main(['report', str(tmp_path / 'run')]) == 0
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert 'mean average precision' in page
  (found,) = json.loads((tmp_path / 'run' / 'data.json').read_text())['found']
  assert found['classes']['red'] == {'train': 32, 'test': 16}
  # Its probabilities are its own: they need not sum to one.
  capsys.readouterr()
  out = tmp_path / 'out.csv'
  argv = ['predict', f'--weights={tmp_path / "run"}', f'--output={out}', '--input']
  assert commands.main([*argv, str(tmp_path / '71.png'), str(tmp_path / '64.png')]) == 0
  with open(out, newline='') as file:
    all_of_them, none = csv.DictReader(file)
  assert all(float(all_of_them[f'p({name})']) > 0.5 for name in CLASSES)
  assert all(float(none[f'p({name})']) < 0.5 for name in CLASSES)
