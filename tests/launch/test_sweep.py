"""A grid of configs as runs: which, in what folders, continued, and in one table."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vit_jax import commands, config

# What training leaves behind, at once. `fail` in the sweep's folder names runs that fail.
FINISH = """
fail = workdir.parent / 'fail'
if fail.exists() and workdir.name in fail.read_text():
  sys.exit(int(fail.read_text().split()[0]))
(workdir / 'config.json').write_text((workdir.parent.parent / 'configs' / workdir.name).read_text())
(workdir / 'summary.json').write_text(json.dumps({{
  'test': {{'top1': 0.5, 'loss': 1.25}}, 'seconds': {{'train': 3.0, 'total': 4.0}}, 'steps': 12,
  'parameters': 1000}}))
"""
GRID = ('--grid.optim.lr=1e-3,3e-4', '--grid.model.width=32,64')
NAMES = ['lr=1e-3,width=32', 'lr=1e-3,width=64', 'lr=3e-4,width=32', 'lr=3e-4,width=64']


@pytest.fixture
def sweep(tiny_recipe, stand_in):
  """sweep(*flags) -> exit code, with runs that are over at once; .root is the sweep's folder."""
  folder = stand_in(FINISH.format(root=str(Path(__file__).parents[2])))
  root = folder / 'sweep'
  (folder / 'configs').mkdir()
  for name in NAMES:
    flags = [
      f'--config.{"optim" if key == "lr" else "model"}.{key}={value}'
      for key, value in (part.split('=') for part in name.split(','))
    ]
    x = config.recipe(tiny_recipe, config.from_flags(flags))
    (folder / 'configs' / name).write_text(x.to_json())

  def run(*flags: str) -> int:
    return commands.main(['sweep', f'--config={tiny_recipe}', f'--workdir={root}', *flags])

  run.root = root
  return run


def table(root: Path) -> list[dict[str, str]]:
  return list(csv.DictReader((root / 'sweep.csv').open()))


def pids(root: Path) -> dict[str, int]:
  return {
    path.parent.name: json.loads(path.read_text())['pid'] for path in root.glob('*/process-0')
  }


def test_a_grid_is_trained_and_listed(sweep, capfd):
  assert sweep(*GRID) == 0
  rows = table(sweep.root)
  assert [row['run'] for row in rows] == NAMES
  assert {row['status'] for row in rows} == {'finished'}
  assert rows[2]['optim.lr'] == '3e-4' and rows[2]['model.width'] == '32'
  assert rows[0]['test/top1'] == '0.5' and rows[0]['train_seconds'] == '3.0'
  out = capfd.readouterr().out
  assert '== 4 of 4: lr=3e-4,width=64' in out and 'lr=1e-3,width=32  finished' in out


def test_what_is_finished_is_left_alone(sweep, capfd):
  (sweep.root).mkdir()
  (sweep.root / 'fail').write_text('1 ' + NAMES[1])
  assert sweep(*GRID) == 1
  assert [row['status'] for row in table(sweep.root)].count('finished') == 3
  assert f'{NAMES[1]} failed with exit code 1' in capfd.readouterr().out
  before = pids(sweep.root)
  (sweep.root / 'fail').unlink()
  assert sweep(*GRID) == 0
  changed = {name for name, pid in pids(sweep.root).items() if pid != before[name]}
  assert changed == {NAMES[1]}
  assert '4 runs in' in (out := capfd.readouterr().out) and '3 of them finished' in out
  assert {row['status'] for row in table(sweep.root)} == {'finished'}


def test_several_at_a_time(sweep, stand_in, capfd):
  """Two runs wait for each other: one at a time would never end."""
  plot = FINISH.format(root=str(Path(__file__).parents[2]))
  stand_in(
    """
(workdir.parent / f'here-{workdir.name}').write_text('')
while len(list(workdir.parent.glob('here-*'))) < 2:
  time.sleep(0.01)
"""
    + plot
  )
  assert sweep('--grid.optim.lr=1e-3', '--grid.model.width=32,64', '--jobs=2') == 0
  assert f'{NAMES[0]} hello from 0' in capfd.readouterr().out
  born = [json.loads((sweep.root / name / 'process-0').read_text()) for name in NAMES[:2]]
  ours = os.sched_getaffinity(0)
  if len(ours) > 1:  # each has a part of the cores to itself
    assert sorted(born[0]['cores'] + born[1]['cores']) == sorted(ours)


def test_programs_are_compiled_once_for_all(sweep, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
  assert sweep('--grid.optim.lr=1e-3', '--grid.model.width=32') == 0
  born = json.loads((sweep.root / NAMES[0] / 'process-0').read_text())
  assert born['variables']['JAX_COMPILATION_CACHE_DIR'] == str(sweep.root / '.compiled')


def test_a_finished_run_of_another_experiment_is_not_taken_for_it(sweep, capsys):
  assert sweep(*GRID) == 0
  assert sweep(*GRID, '--config.seed=1') == 2
  assert 'config.seed was 0 and is now 1' in capsys.readouterr().err


def test_an_interrupted_sweep_goes_on(sweep, tiny_recipe, stand_in):
  """SIGTERM: the run at hand saves and ends, no other starts, and the exit code is 75."""
  folder = stand_in('time.sleep(600)')
  root = Path(__file__).parents[2]
  launcher = folder / 'elsewhere' / 'launcher.py'
  launcher.parent.mkdir()
  launcher.write_text(
    f'import sys\nsys.path.insert(0, {str(root)!r})\nfrom vit_jax import commands\n'
    f'sys.exit(commands.main(sys.argv[1:]))\n'
  )
  process = subprocess.Popen(
    [
      sys.executable,
      str(launcher),
      'sweep',
      f'--config={tiny_recipe}',
      f'--workdir={sweep.root}',
      *GRID,
    ],
    cwd=folder,
    stdout=subprocess.DEVNULL,
  )
  try:
    deadline = time.monotonic() + 60
    while not pids(sweep.root):
      assert time.monotonic() < deadline and process.poll() is None
      time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 75
  finally:
    if process.poll() is None:
      process.kill()
      process.wait()
  assert list(pids(sweep.root)) == NAMES[:1]
  assert {row['status'] for row in table(sweep.root)} == {'waiting'}
  stand_in(FINISH.format(root=str(root)))
  assert sweep(*GRID) == 0


SWEEP = """
def get_sweep():
  return [{'model.width': 32, 'model.heads': 2}, {'model.width': 64, 'data.train': 'train[:50%]'}]
"""


def test_a_recipe_with_a_sweep_of_its_own(tiny_recipe, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  recipe = tmp_path / 'scaling.py'
  recipe.write_text(tiny_recipe.read_text() + SWEEP)
  argv = ['sweep', f'--config={recipe}', f'--workdir={tmp_path / "runs"}', '--target=slurm']
  assert commands.main([*argv, '--print']) == 0
  text = capsys.readouterr().out
  assert '# width=32,heads=2\n' in text and "--config.data.train=train[:50%]'" in text
  assert text.count('#!/bin/bash') == 2
  assert commands.main([*argv, '--grid.seed=0,1,2']) == 0
  files = capsys.readouterr().out.split()
  assert len(files) == 6 and all(Path(file).suffix == '.sbatch' for file in files)
  assert (
    len(
      {line for file in files for line in Path(file).read_text().splitlines() if 'job-name' in line}
    )
    == 6
  )


@pytest.mark.parametrize(
  'flags, expected',
  [
    ((), '--grid is missing'),
    (('--grid.optim.lr',), "'--grid.optim.lr'"),
    (('--grid.optim.lr=',), "'--grid.optim.lr='"),
    (('--grid.optim.lr=1e-3,1e-3',), 'twice'),
    (('--grid.optim.warmpu=1',), 'warmpu=1: config.optim.warmpu'),
    (('--grid.optim.lr=1e-3', '--grit.x=1'), "'--grit.x=1'"),
    (('--grid.optim.lr=1e-3', '--time=1:00'), '--time means nothing to --target=local'),
  ],
)
def test_faults_in_a_grid(flags, expected, tiny_recipe, tmp_path, capsys):
  assert (
    commands.main(['sweep', f'--config={tiny_recipe}', f'--workdir={tmp_path / "s"}', *flags]) == 2
  )
  assert expected in capsys.readouterr().err


def test_values_with_commas_and_names_without_odd_letters(
  tiny_recipe, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  assert (
    commands.main(
      [
        'sweep',
        f'--config={tiny_recipe}',
        f'--workdir={tmp_path / "s"}',
        '--target=slurm',
        '--grid.data.image_size=(16, 16),(32, 32)',
        '--grid.model.name=Ti/8,Ti/16',
      ]
    )
    == 0
  )
  names = [Path(line).stem for line in capsys.readouterr().out.splitlines()]
  assert len(set(names)) == 4
  assert all(set('/() ').isdisjoint(name) for name in names)


@pytest.fixture
def elsewhere(tiny_recipe, tmp_path, monkeypatch, capfd):
  """elsewhere(*flags) -> (exit code, what it printed) of a sweep on a cluster, where runs cannot be
  on this machine; `kubectl` fails for files that hold what stands in `fail`."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'recipe.py').write_text(tiny_recipe.read_text())
  (tmp_path / 'kubectl').write_text(
    '#!/bin/bash\n[ -f fail ] && grep -qf fail "${!#}" && exit 3\necho "${!#}" >> called\n'
  )
  (tmp_path / 'kubectl').chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')

  def run(*flags: str) -> tuple[int, str]:
    code = commands.main(
      [
        'sweep',
        '--config=recipe.py',
        '--target=jobset',
        '--image=i',
        '--volume=runs:/dev/null/runs',
        *flags,
      ]
    )
    return code, ''.join(capfd.readouterr())

  return run


def test_files_for_a_cluster_lie_here(elsewhere):
  """Each sweep's apart, whatever their folders there have in common."""
  files = [
    Path(file)
    for root in ('a', 'b')
    for file in elsewhere(f'--workdir=/dev/null/runs/{root}/x', *GRID)[1].split()
  ]
  assert len(set(files)) == 8 and {file.parts[:2] for file in files} == {('runs', 'launch')}
  assert '--workdir=/dev/null/runs/b/x/' + NAMES[3] in files[-1].read_text()


def test_jobs_of_a_sweep_have_names_of_their_own(elsewhere):
  flags = ('--workdir=/dev/null/runs/x', '--grid.optim.lr=.1,1,2')
  for name, flag in (('tiny', ()), ('mine', ('--name=mine',))):
    _, text = elsewhere(*flags, *flag, '--print')
    names = [line.split()[-1] for line in text.splitlines() if line.startswith('  name: ')]
    assert len(set(names)) == 3 and names[2] == f'{name}-lr-2'
    assert [each.rpartition('-')[0] for each in names[:2]] == [f'{name}-lr-1'] * 2


def test_what_was_submitted_is_left_alone(elsewhere, tmp_path):
  flags = ('--workdir=/dev/null/runs/x', '--submit')
  (tmp_path / 'fail').write_text(NAMES[1])
  assert elsewhere(*flags, *GRID)[0] == 1
  called = (tmp_path / 'called').read_text().split()
  assert len(called) == 3
  (tmp_path / 'fail').unlink()
  code, text = elsewhere(*flags, *GRID)
  assert code == 0 and text.count('was submitted before; to submit it again, delete') == 3
  again = (tmp_path / 'called').read_text().split()[3:]
  assert [Path(file).stem for file in again] == [NAMES[1]]
  [line] = [line for line in text.splitlines() if line.startswith(NAMES[0])]
  Path(line.split()[-1]).unlink()
  assert elsewhere(*flags, *GRID)[0] == 0
  assert (tmp_path / 'called').read_text().split()[4:] == called[:1]
