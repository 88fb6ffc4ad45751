"""Files from elsewhere: cached, their checksum shown and compared; the AugReg index. No network."""

import csv
import hashlib
import io

import fsspec
import pytest

from vit_jax.errors import UserError
from vit_jax.remote.fetch import fetch
from vit_jax.weights import augreg

DATA = b'some weights'
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def remote():
  """A folder of a file system in memory."""
  memory = fsspec.filesystem('memory')
  memory.pipe('/models/weights.npz', DATA)
  yield 'memory://models'
  memory.rm('/models', recursive=True)


def test_fetched_once(remote, tmp_path, caplog):
  caplog.set_level('INFO')
  path = fetch(f'{remote}/weights.npz', tmp_path)
  assert path.read_bytes() == DATA and path.parent == tmp_path and path.suffix == '.npz'
  assert caplog.messages == [
    f'fetching {remote}/weights.npz, 12 bytes',
    f'{remote}/weights.npz: 12 bytes, sha256 {DIGEST}, now in {path}',
  ]
  fsspec.filesystem('memory').pipe('/models/weights.npz', b'changed')
  assert fetch(f'{remote}/weights.npz', tmp_path) == path and path.read_bytes() == DATA
  assert caplog.messages[2:] == [
    f'{remote}/weights.npz: 12 bytes, sha256 {DIGEST}, already in {path}'
  ]
  assert kept(tmp_path) == [path.name]


def kept(cache):
  """Files in a cache, but for its locks and checksums."""
  return [entry.name for entry in cache.iterdir() if entry.name not in ('.locks', '.sha256')]


def test_a_copy_that_was_damaged_later_is_fetched_again(remote, tmp_path, caplog):
  path = fetch(f'{remote}/weights.npz', tmp_path)
  path.write_bytes(DATA[::-1])
  assert fetch(f'{remote}/weights.npz', tmp_path).read_bytes() == DATA
  assert sum('is fetched again' in message for message in caplog.messages) == 1


def test_a_copy_that_is_not_what_is_wanted_now_is_fetched_again(remote, tmp_path):
  memory = fsspec.filesystem('memory')
  memory.pipe('/models/weights.npz', b'an error page')
  fetch(f'{remote}/weights.npz', tmp_path)
  memory.pipe('/models/weights.npz', DATA)
  assert fetch(f'{remote}/weights.npz#sha256={DIGEST}', tmp_path).read_bytes() == DATA


def test_files_of_one_name_do_not_meet_in_the_cache(remote, tmp_path):
  fsspec.filesystem('memory').pipe('/models/other/weights.npz', b'others')
  assert fetch(f'{remote}/other/weights.npz', tmp_path) != fetch(f'{remote}/weights.npz', tmp_path)


@pytest.mark.parametrize('wanted', [DIGEST, DIGEST.upper(), DIGEST[:12]])
def test_a_checksum_that_is_right(remote, wanted, tmp_path):
  fetch(f'{remote}/weights.npz#sha256={wanted}', tmp_path)
  local = tmp_path / 'local.npz'
  local.write_bytes(DATA)
  assert fetch(f'{local}#sha256={wanted}', tmp_path) == local


def test_a_checksum_that_is_wrong(remote, tmp_path):
  local = tmp_path / 'local.npz'
  local.write_bytes(DATA)
  for source in (f'{remote}/weights.npz', str(local)):
    with pytest.raises(UserError, match=f'has sha256 {DIGEST}, not 123abc; it is damaged or'):
      fetch(f'{source}#sha256=123abc', tmp_path)


@pytest.mark.parametrize(
  'source, sentence',
  [
    ('memory://models/nothing.npz', 'memory://models/nothing.npz cannot be fetched: '),
    ('nonsense://a/b.npz', 'nonsense://a/b.npz cannot be fetched: Protocol not known'),
    ('nowhere.npz#sha256=12', 'there is no file nowhere.npz'),
  ],
)
def test_what_is_not_there(source, sentence, tmp_path):
  with pytest.raises(UserError) as error:
    fetch(source, tmp_path)
  assert str(error.value).startswith(sentence) and not list(tmp_path.iterdir())


class Breaking(io.BytesIO):
  """Ends after 5 bytes, as a connection does."""

  def read(self, size=-1):
    return super().read(min(size, max(0, 5 - self.tell())))


def test_a_download_that_breaks_off_goes_on_where_it_was(remote, tmp_path, monkeypatch, caplog):
  caplog.set_level('INFO')
  memory = type(fsspec.filesystem('memory'))
  with monkeypatch.context() as patch:
    patch.setattr(memory, 'open', lambda self, name, mode: Breaking(DATA))
    with pytest.raises(UserError, match='broke off after 5 of 12 bytes; run the same'):
      fetch(f'{remote}/weights.npz', tmp_path)
  (part,) = kept(tmp_path)
  assert (tmp_path / part).read_bytes() == DATA[:5]
  (tmp_path / part).write_bytes(b'ABCDE')  # to see what is fetched again
  path = fetch(f'{remote}/weights.npz', tmp_path)
  assert path.read_bytes() == b'ABCDE' + DATA[5:] and kept(tmp_path) == [path.name]
  assert 'fetching memory://models/weights.npz, 12 bytes, from byte 5' in caplog.messages


def test_what_is_there_of_another_version_is_not_gone_on_with(remote, tmp_path, monkeypatch):
  memory = fsspec.filesystem('memory')
  with monkeypatch.context() as patch:
    patch.setattr(type(memory), 'open', lambda self, name, mode: Breaking(DATA))
    with pytest.raises(UserError, match='broke off'):
      fetch(f'{remote}/weights.npz', tmp_path)
  memory.pipe('/models/weights.npz', DATA[::-1])
  assert fetch(f'{remote}/weights.npz', tmp_path).read_bytes() == DATA[::-1]


def test_a_download_of_another_checksum_is_not_kept(remote, tmp_path):
  for _ in range(2):
    with pytest.raises(UserError, match=f'weights.npz has sha256 {DIGEST}, not 123abc'):
      fetch(f'{remote}/weights.npz#sha256=123abc', tmp_path)
    assert kept(tmp_path) == []
  assert fetch(f'{remote}/weights.npz', tmp_path).read_bytes() == DATA


def test_a_kind_of_address_whose_package_is_missing(tmp_path, monkeypatch):
  def no_package(address):
    raise ImportError('Please install gcsfs')

  monkeypatch.setattr(fsspec.core, 'url_to_fs', no_package)
  for address, extra in (('gs://vit_models/index.csv', 'stores'), ('ftp://host/x', 'remote')):
    with pytest.raises(UserError, match=rf"install 'vit-jax\[{extra}\]'"):
      fetch(address, tmp_path)


COLUMNS = (
  'name',
  'ds',
  'epochs',
  'lr',
  'aug',
  'wd',
  'do',
  'sd',
  'best_val',
  'final_val',
  'final_test',
  'adapt_ds',
  'adapt_lr',
  'adapt_steps',
  'adapt_resolution',
  'adapt_final_val',
  'adapt_final_test',
  'params',
  'infer_samples_per_sec',
  'filename',
  'adapt_filename',
)


def row(name: str, ds: str, aug: str, final_val: float, *adapted: tuple[str, int, float]) -> list:
  """Rows of the index: one for each fine-tuning (data set, resolution, accuracy)."""
  filename = f'{name.replace("/", "_")}-{ds}-{aug}'
  return [
    dict(
      name=name,
      ds=ds,
      aug=aug,
      wd='0.10',
      final_val=final_val,
      filename=filename,
      adapt_ds=adapt_ds,
      adapt_resolution=resolution,
      adapt_final_val=value,
      adapt_filename=f'{filename}--{adapt_ds}-res_{resolution}',
    )
    for adapt_ds, resolution, value in adapted
  ]


INDEX = [
  *row('B/16', 'i21k', 'light1', 0.40, ('imagenet2012', 224, 0.80), ('cifar10', 224, 0.99)),
  *row(
    'B/16',
    'i21k',
    'medium1',
    0.47,
    ('imagenet2012', 224, 0.84),
    ('imagenet2012', 384, 0.86),
    ('cifar10', 224, 0.98),
  ),
  *row('B/16', 'i1k', 'light1', 0.79, ('imagenet2012', 384, 0.77)),
  *row('S/16', 'i21k', 'none', 0.99, ('imagenet2012', 224, 0.8)),
]


@pytest.fixture
def index(tmp_path):
  memory = fsspec.filesystem('memory')
  path = tmp_path / 'index.csv'
  with path.open('w', newline='') as file:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows(INDEX)
  memory.pipe('/augreg/index.csv', path.read_bytes())
  yield 'memory://augreg'
  memory.rm('/augreg', recursive=True)


@pytest.mark.parametrize(
  'spec, name',
  [
    ('B/16', 'B_16-i21k-medium1'),  # as recommended: the best of i21k
    ('S/16', 'S_16-i21k-none'),
    ('B/16?aug=light1', 'B_16-i21k-light1'),
    ('B/16?ds=i1k', 'B_16-i1k-light1'),
    ('B/16?wd=0.1&aug=medium1', 'B_16-i21k-medium1'),
    ('B/16?adapt_ds=imagenet2012', 'B_16-i21k-medium1--imagenet2012-res_384'),
    ('B/16?adapt_ds=imagenet2012&adapt_resolution=224', 'B_16-i21k-medium1--imagenet2012-res_224'),
    (
      'B/16?ds=i1k&aug=light1&adapt_ds=imagenet2012&adapt_resolution=384',
      'B_16-i1k-light1--imagenet2012-res_384',
    ),
    # The best pretraining, not the best fine-tuning on its own.
    ('B/16?adapt_ds=cifar10', 'B_16-i21k-medium1--cifar10-res_224'),
  ],
)
def test_augreg_rows(spec, name, index, tmp_path):
  assert augreg.address(f'augreg:{spec}', tmp_path, index) == f'{index}/{name}.npz'


@pytest.mark.parametrize(
  'spec, sentence',
  [
    ('B/17', "no row of the index is left with name=B/17; did you mean 'B/16'?"),
    ('B/16?augm=light1', "the index has no column 'augm'; did you mean 'aug'?"),
    ('B/16?aug=light2', "left with aug=light2; did you mean 'light1'?"),
    ('B/16?wd=much', 'left with wd=much; known: 0.10'),
    ('S/16?ds=i1k', 'left with ds=i1k; '),
  ],
)
def test_augreg_rows_that_do_not_exist(spec, sentence, index, tmp_path):
  with pytest.raises(UserError) as error:
    augreg.address(f'augreg:{spec}', tmp_path, index)
  assert sentence in str(error.value)
