"""Every flag and key that takes a path: `~` is the home folder, and most refuse an address."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from vit_jax import commands, config
from vit_jax.config import ImageData
from vit_jax.data.sources import open_source
from vit_jax.errors import UserError
from vit_jax.evaluate.images import open_images
from vit_jax.paths import default_data_dir, place
from vit_jax.weights import sources

# Each is refused once the path is known, for what it names is not there or another flag is wrong.
COMMANDS = [
  'prepare folder:x --data_dir={}',
  'train --config={}.py',
  'predict --weights=augreg:x --input={}',
  'predict --weights=augreg:x --input=nonesuch --output={}.npz',
  'predict --weights=augreg:x --input=nonesuch --attention={}.png',
  'convert --from=nonesuch --to={}.npz',
  'transfer --weights bag_of_words --data folder:{}',
  *(
    f'transfer --weights nonesuch --suite=nonesuch {flag}'
    for flag in ('--workdir={}', '--csv={}', '--json={}', '--page={}.html')
  ),
  'transfer --weights bag_of_words --methods fine_tune --data digits --recipe={}.py',
  'bench --json={}',
  'report --table=nonesuch --csv={}',
  'report --table=nonesuch --png={}.png',
  'report nonesuch --page={}.html',
  'launch --config={}.py',
  'sweep --config={}.py --grid.seed=0,1',
  'sweep --config=nonesuch --workdir={}',
  'compare --config={}.py',
  *(
    f'compare --config=nonesuch {flag}'
    for flag in ('--workdir={}', '--csv={}', '--json={}', '--plot={}.png')
  ),
  'plan --config={}.py --topology=v5e:2x2',
  'plan --config=nonesuch --topology=v5e:2x2 --csv={}',
]
# These take a run folder or data sets, which may be at an address.
PLACES = [
  'train --config=nonesuch --data_dir={}',
  'evaluate --workdir=nonesuch --data_dir={}',
  'predict --weights=augreg:x --input=nonesuch --data_dir={}',
  'convert --from=nonesuch --to=nonesuch.npz --data_dir={}',
  'plan --config=nonesuch --topology=v5e:2x2 --data_dir={}',
  'transfer --weights nonesuch --suite=nonesuch --data_dir={}',
  'compare --config=nonesuch --data_dir={}',
  'train --config=nonesuch --workdir={}',
  'evaluate --workdir={}',
  'report {}',
  'finetune --weights=nonesuch --data=nonesuch --workdir={}',
  'launch --config=nonesuch --workdir={}',
]


@pytest.fixture
def home(tmp_path, monkeypatch):
  """The home folder; the current one is another, beside it."""
  for name in ('home', 'here'):
    (tmp_path / name).mkdir()
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.chdir(tmp_path / 'here')
  return tmp_path / 'home'


def refused(command: str, capsys) -> str:
  assert commands.main(command.split()) == 2
  error = capsys.readouterr().err
  assert error.startswith('vit_jax: ') and error.count('\n') == 1
  return error


@pytest.fixture
def expanded(monkeypatch) -> list[str]:
  """The paths of which `~` is expanded from now on."""
  paths: list[str] = []
  expanduser = Path.expanduser
  monkeypatch.setattr(Path, 'expanduser', lambda path: paths.append(str(path)) or expanduser(path))
  return paths


@pytest.mark.parametrize('command', COMMANDS)
def test_flags(command, home, expanded, capsys):
  refused(command.format('~/no/such'), capsys)
  assert any(path.startswith('~/no/such') for path in expanded)
  error = refused(command.format('gs://bucket/x'), capsys)
  assert 'gs://bucket/x' in error and 'is an address' in error
  assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize('command', PLACES)
def test_places(command, home, expanded, capsys):
  refused(command.format('~/no/such'), capsys)
  assert '~/no/such' in expanded
  error = refused(command.format('memory://bucket/x'), capsys)  # a store in which nothing is
  assert 'nonesuch' in error or 'memory://bucket/x is not a run folder' in error
  error = refused(command.format('https://host/x'), capsys)
  assert 'https://host/x cannot be a run folder' in error
  assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
  'typed, meant',
  [
    ('gs://bucket/run/', 'gs://bucket/run'),
    ('S3:/bucket//run', 's3://bucket//run'),  # of a Path, which keeps one slash
    ('file:///a/b', 'file:///a/b'),
    ('memory://x', 'memory://x'),
    ('runs/x', Path('runs/x')),
  ],
)
def test_a_run_folder_is_a_path_or_an_address(typed, meant):
  assert place(typed) == meant == place(place(typed))


@pytest.mark.parametrize(
  'opened',
  [
    lambda place: open_source(ImageData(name='folder', dir=place), 'train').where(0),
    lambda place: open_source(ImageData(name=f'folder:{place}'), 'train').where(0),
    lambda place: open_images([f'{place}/a']).names[0],
  ],
  ids=['data.dir', 'data.name', '--input'],
)
def test_images(opened, home):
  for name in 'ab':
    (home / 'images' / name).mkdir(parents=True)
  Image.new('L', (4, 4)).save(home / 'images' / 'a' / '0.png')
  Image.new('L', (4, 4)).save(home / 'images' / 'b' / 'zz.png')
  assert opened('~/images') == str(home / 'images' / 'a' / '0.png')
  with pytest.raises(UserError, match='gs://bucket/images.* is an address'):
    opened('gs://bucket/images')


def test_a_recipe_file_and_what_is_stored_of_it(home):
  shutil.copy(Path(__file__).parents[1] / 'configs' / 'folder.py', home / 'mine.py')
  x = config.recipe('~/mine.py', {'data.dir': '~/images', 'init_from': '~/weights.npz'})
  assert x.data.dir == '~/images' and x.init_from == '~/weights.npz'  # as they were written
  with pytest.raises(UserError, match='gs://bucket/mine.py.* is an address'):
    config.recipe('gs://bucket/mine.py')


@pytest.mark.parametrize('place, at', [('~/w.npz', ''), ('~/run', '@best'), ('~/run', '')])
def test_weights(place, at, home):
  """Of `--weights`, `--from`, `init_from` and `teacher_weights`."""
  (home / 'w.npz').touch()
  (home / 'run').mkdir()
  found = home / Path(place).name, at.removeprefix('@') or 'last'
  assert sources.locate(place + at) == found
  with pytest.raises(UserError, match='there is no run folder or file ~/other'):
    sources.locate('~/other')


@pytest.mark.parametrize('address', ['gs://bucket/x.npz', 'https://host/x.npz', 'hf://org/name'])
def test_weights_may_have_an_address(address, home):
  assert sources.locate(address) == (address, 'last')


def test_the_data_folder_of_the_environment(home, monkeypatch):
  monkeypatch.setenv('VIT_JAX_DATA_DIR', '~/data')
  assert default_data_dir() == home / 'data'
  monkeypatch.setenv('VIT_JAX_DATA_DIR', 'gs://bucket/data')
  with pytest.raises(UserError, match='is an address'):
    default_data_dir()
