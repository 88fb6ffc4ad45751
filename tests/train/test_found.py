"""A run says what was found in its data, and keeps it in its folder."""

import html
import json

from vit_jax import commands


def test_a_run_says_what_was_found(lenet_recipe, write_images, tmp_path, capsys):
  images = tmp_path / 'images'
  write_images(images / 'Training', {'a': 9, 'b': 9})
  write_images(images / 'Valid', {'a': 4}, seed=1)
  twin = images / 'Valid' / 'a' / 'twin.png'
  twin.write_bytes((images / 'Training' / 'b' / '003.png').read_bytes())
  (images / 'Valid' / 'a' / 'notes.txt').write_text('words')
  argv = ['train', f'--config={lenet_recipe}', f'--workdir={tmp_path / "run"}', '--config.steps=2']
  argv += ['--config.batch_size=16', '--config.eval_batch_size=16']
  assert commands.main([*argv, f'--config.data.dir={images}']) == 0
  (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith('data: '))
  for words in (
    '2 classes',
    'train 18, validation 5',
    'left out: 1 .txt files',
    'validation has no example of 1 of the classes: b',
    '1 images of validation are in train',
  ):
    assert words in line
  (found,) = json.loads((tmp_path / 'run' / 'data.json').read_text())['found']
  assert found['line'] == line
  assert line in html.unescape((tmp_path / 'run' / 'report.html').read_text())
  assert found['examples'] == {'train': 18, 'validation': 5}
  assert found['classes'] == {
    'a': {'train': 9, 'validation': 5},
    'b': {'train': 9, 'validation': 0},
  }
  assert found['duplicates'][0]['files'][1] == str(twin)
  assert found['left_out'] == {'.txt files': [str(twin.with_name('notes.txt'))]}
