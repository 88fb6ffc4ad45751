"""`vit_jax plan` from the command line, on CPU topologies."""

import csv

import pytest
from plain_step import PLAIN

from vit_jax import commands
from vit_jax.plan import compilers

SIZE = ('--num_examples=75', '--num_classes=3')


def test_a_table(tiny_recipe, tmp_path, capsys):
  """Two topologies; a mesh that one of them does not have is refused in its row."""
  out = tmp_path / 'table.csv'
  argv = [
    'plan',
    '--config',
    str(tiny_recipe),
    '--topology',
    'cpu:8',
    'cpu:2',
    f'--csv={out}',
    f'--data_dir={tmp_path}',
    '--config.mesh.fsdp=4',
    *SIZE,
    *PLAIN,
    '--config.model.remat=none',
  ]
  assert commands.main(argv) == 0
  with out.open() as file:
    first, second = csv.DictReader(file)
  assert (first['answer'], first['mesh'], first['images_per_pass']) == (
    'memory not known',
    'replica=2 fsdp=4',
    '2',
  )
  assert float(first['needed_gib']) > 0 and float(first['tflop']) > 0
  assert float(first['all-gather_gb']) > 0 and 'jax=' in first['versions']
  assert second['answer'].startswith('refused: config.mesh is') and not second['needed_gib']
  shown = capsys.readouterr().out.splitlines()
  assert len(shown) == 4 and shown[0].startswith('| model | topology |')
  assert len(list((tmp_path / 'plans').iterdir())) == 1


@pytest.mark.parametrize(
  'flags, expected',
  [
    (('--topology=v5e:16x16x16', *SIZE), "--topology: 'v5e:16x16x16'"),
    (('--topology=cpu:8',), '--num_examples'),
    (('--topology=cpu:8', '--num_examples=-5', '--num_classes=3'), '--num_examples'),
    (('--topology=cpu:8', '--num_examples=75', '--num_classes=-3'), '--num_classes'),
    (('--topology=cpu:8', '--search', *SIZE), '--search: the memory of cpu:8'),
    (('--topology', 'cpu:8', 'cpu:4', '--search', *SIZE), '--search takes one'),
    (('--topology=cpu:8', '--csv=nowhere/at/all.csv', *SIZE), '--csv'),
    (('--topology=cpu:8', '--config.mesh.fsdp=3', *SIZE), 'config.mesh is'),
    (('--topology=cpu:8', '--config.batch_size=12', *SIZE), 'config.batch_size is 12'),
  ],
)
def test_mistakes_get_one_sentence(flags, expected, tiny_recipe, tmp_path, capsys):
  assert commands.main(['plan', f'--config={tiny_recipe}', f'--data_dir={tmp_path}', *flags]) == 2
  said = capsys.readouterr().err.strip()
  assert expected in said and said.startswith('vit_jax: ') and '\n' not in said


def test_a_missing_plugin_ends_before_anything_is_planned(
  tiny_recipe, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(compilers, '_installed', lambda module: False)
  argv = [
    'plan',
    f'--config={tiny_recipe}',
    '--topology',
    'cpu:8',
    'h100:8',
    *SIZE,
    f'--data_dir={tmp_path}',
  ]
  assert commands.main(argv) == 2
  assert 'pip install --no-deps' in capsys.readouterr().err
  assert not (tmp_path / 'plans').exists()
