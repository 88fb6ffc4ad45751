"""A whole run at an address: trained, found again by a new host, judged, drawn, used."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np

from tests.fleet import result
from vit_jax import commands
from vit_jax.remote import transfers
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.mirror import Mirror
from vit_jax.run.folder import Run
from vit_jax.weights import sources


def command(recipe: Path, place: object, *more: str) -> list[str]:
  keys = {'steps': 10, 'batch_size': 16, 'eval_batch_size': 16, 'evals.test.every.steps': 5}
  changes = [f'--config.{key}={value}' for key, value in keys.items()]
  return ['train', f'--config={recipe}', f'--workdir={place}', *changes, *more]


def test_a_run_in_a_store(lenet_recipe, tiny_folder, cache, tmp_path, monkeypatch, capsys):
  """It is bit by bit that of a disk, and each command reads it on a host that has nothing of it."""
  address = 'memory://bucket/runs/one'
  for place in (tmp_path / 'disk', address):
    assert commands.main(command(lenet_recipe, place)) == 0
  assert f'report: {address}/report.html' in capsys.readouterr().out
  there = RemoteFolder(address)
  assert {'config.json', 'index.json', 'report.html', 'summary.json'} <= {*there.names()}
  assert 'lock.json' not in there.names() and not Path('memory:').exists()

  shutil.rmtree(cache)
  (state, rows, summary), expected = result(address), result(tmp_path / 'disk')
  jax.tree.map(np.testing.assert_array_equal, state, expected[0])
  assert rows == expected[1] and summary['test'] == expected[2]['test']

  shutil.rmtree(cache)
  assert commands.main(['evaluate', f'--workdir={address}', '--checkpoint=best']) == 0
  assert f'{address} at step ' in capsys.readouterr().out
  assert any(re.fullmatch(r'evaluation-\d+\.json', name) for name in there.names())

  shutil.rmtree(cache)
  there.remove(['report.html'])
  assert commands.main(['report', address]) == 0
  assert capsys.readouterr().out.endswith(f'\n{address}/report.html\n')
  assert b'<html' in (there.read('report.html') or b'')[:100]
  assert list(Run(address).evaluations)

  shutil.rmtree(cache)
  run = Run(address)
  for source, checkpoint in ((address, 'last'), (f'{address}@5', '5'), (f'{address}@best', 'best')):
    assert sources.locate(source) == (run.path, checkpoint)
  image = tiny_folder / 'test' / 'dark' / '000.png'
  assert commands.main(['predict', f'--weights={address}@10', f'--input={image}']) == 0
  assert f'{address} at step 10: ' in capsys.readouterr().out

  # On a new host, with saves at each step of which every third is uploaded; and the last.
  shutil.rmtree(cache)
  rarely = ('--config.checkpoint.every.steps=1', '--config.checkpoint.upload_every=3')
  longer = command(lenet_recipe, address, '--config.steps=14', *rarely)
  assert commands.main(longer) == 0
  assert f'start: checkpoint of step 10 in {address}/checkpoints' in capsys.readouterr().out
  events = map(json.loads, (there.read('events.jsonl') or b'').splitlines())
  uploads = [event for event in events if event['event'] == 'upload']
  assert [event['step'] for event in uploads if event['step'] > 10] == [13, 14]
  assert '14' in there.read_object('index.json')['checkpoints']
  assert commands.main(['report', '--goodput', address]) == 0
  size = sum(event['bytes'] for event in uploads)
  said = f'uploaded beside it: {len(uploads)} checkpoints, {size / 1e9:.3g} GB'
  shown = capsys.readouterr().out
  assert shown.startswith(f'{address}: goodput ') and said in shown


def test_a_disk_without_room_is_found_before_the_first_step(
  lenet_recipe, cache, tmp_path, monkeypatch, capsys
):
  usage = shutil.disk_usage(tmp_path)
  monkeypatch.setattr(transfers.shutil, 'disk_usage', lambda path: usage._replace(free=1000))
  address = 'memory://bucket/runs/full'
  assert commands.main(command(lenet_recipe, address)) == 2
  error = capsys.readouterr().err
  assert error.startswith(f'vit_jax: {address} with its checkpoints needs 0.0 GB on the disk of')
  assert error.count('\n') == 1 and 'VIT_JAX_CACHE_DIR' in error
  assert not (Mirror.at(address, 0).folder / 'metrics.jsonl').exists()
  assert 'lock.json' not in RemoteFolder(address).names()
