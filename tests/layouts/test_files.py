"""Files of weights: read and written whole, and every kind of bad one answered in a sentence."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.layouts import files

ARRAYS = {
  'a/kernel': np.arange(6, dtype=np.float32).reshape(2, 3),
  'scalar': np.asarray(2.5, np.float32),
  'empty': np.zeros((0, 3), np.float32),
  'fortran': np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
  'half': np.ones(3, np.float16),
  'bfloat16': np.asarray([1.5, -2], ml_dtypes.bfloat16),
  'double': np.linspace(0, 1, 5),
}
SUFFIXES = ('.npz', '.safetensors')


class Armed:
  """Unpickling this creates a file."""

  def __init__(self, path: Path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_written_and_read(suffix, tmp_path):
  path = tmp_path / f'weights{suffix}'
  files.write(path, ARRAYS)
  read = files.floats(files.read(path), 'file')
  assert read.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    assert read[name].dtype == np.float32 and read[name].shape == array.shape
    np.testing.assert_array_equal(read[name], array.astype(np.float32))
  again = path.with_name(f'again{suffix}')
  files.write(again, ARRAYS)
  assert again.read_bytes() == path.read_bytes()  # nothing of the day or the place is in it
  assert sorted(os.listdir(tmp_path)) == sorted([path.name, again.name])


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_numpys_own_files_are_read_and_it_reads_ours(save, tmp_path):
  path = tmp_path / 'weights.npz'
  save(path, **ARRAYS)
  read = files.floats(files.read(path), 'file')
  np.testing.assert_array_equal(read['bfloat16'], [1.5, -2])  # which numpy stores as two bytes
  files.write(path, ARRAYS)
  with np.load(path, allow_pickle=False) as theirs:
    np.testing.assert_array_equal(theirs['a/kernel'], ARRAYS['a/kernel'])


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_notes(suffix, tmp_path):
  path = tmp_path / f'weights{suffix}'
  files.write(path, ARRAYS, {'exact_gelu': True})
  assert files.notes(path) == {'exact_gelu': True} and files.read(path).keys() == ARRAYS.keys()
  files.write(path, ARRAYS)
  assert files.notes(path) == {}


@pytest.mark.parametrize('comment', [b'made by hand', b'[1]', b'\xff'])
def test_comments_of_others_are_no_notes(comment, tmp_path):
  path = tmp_path / 'weights.npz'
  files.write(path, ARRAYS)
  with zipfile.ZipFile(path, 'a') as archive:
    archive.comment = comment
  assert files.notes(path) == {}


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_permissions_are_those_of_any_file(suffix, tmp_path):
  (tmp_path / 'any').write_bytes(b'')
  files.write(tmp_path / f'weights{suffix}', ARRAYS)
  assert (tmp_path / f'weights{suffix}').stat().st_mode == (tmp_path / 'any').stat().st_mode


def test_a_failed_write_leaves_what_was_there(tmp_path):
  path = tmp_path / 'weights.npz'
  files.write(path, ARRAYS)
  before = path.read_bytes()
  with pytest.raises(ValueError, match='allow_pickle'):
    files.write(path, {'a': np.ones(3), 'b': np.asarray([None])})
  assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]
  for suffix in SUFFIXES:
    with pytest.raises(UserError, match='cannot be written'):
      files.write(tmp_path / 'no' / f'weights{suffix}', ARRAYS)


def refused(path: Path) -> str:
  """The sentence that answers a file."""
  with pytest.raises(UserError) as error:
    files.floats(files.read(path), str(path))
  sentence = str(error.value)
  assert path.name in sentence and '\n' not in sentence
  return sentence


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('keep', [0, 3, 40, 200, 0.5, -1])
def test_truncated(suffix, keep, tmp_path):
  whole = tmp_path / f'whole{suffix}'
  files.write(whole, ARRAYS | {'long': np.ones(1000, np.float32)})
  data = whole.read_bytes()
  path = tmp_path / f'cut{suffix}'
  path.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else keep])
  assert f'is no whole {suffix}' in refused(path)


def test_a_flipped_bit_is_noticed(tmp_path):
  path = tmp_path / 'weights.npz'
  files.write(path, {'a': np.ones(1000, np.float32)})
  data = bytearray(path.read_bytes())
  data[2000] ^= 1
  path.write_bytes(data)
  assert 'CRC' in refused(path)


@pytest.mark.parametrize(
  'name', ['weights.npz', 'weights.safetensors', 'weights.pt', 'pytorch_model.bin', 'weights.pth']
)
def test_a_pickle_in_disguise_is_not_unpickled(name, tmp_path):
  path, trap = tmp_path / name, tmp_path / 'it ran'
  path.write_bytes(pickle.dumps({'head.weight': Armed(trap)}))
  sentence = refused(path)
  assert not trap.exists()
  if path.suffix not in SUFFIXES:
    assert 'pickle' in sentence and '.safetensors' in sentence


def test_pickled_objects_in_an_npz_are_not_unpickled(tmp_path):
  path, trap = tmp_path / 'weights.npz', tmp_path / 'it ran'
  np.savez(path, a=np.asarray([Armed(trap)], dtype=object))
  assert 'pickled objects' in refused(path)
  assert not trap.exists()
  with pytest.raises(FileExistsError):  # the trap does work
    trap.mkdir()
    np.load(path, allow_pickle=True)['a']


def test_a_torch_archive_by_the_name_of_npz(tmp_path):
  path = tmp_path / 'weights.npz'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', pickle.dumps({}))
  assert "it holds 'archive/data.pkl'" in refused(path)


@pytest.mark.parametrize('name', ['../a.npy', '/a.npy', 'b\\a.npy', 'a.txt'])
def test_odd_members(name, tmp_path):
  path = tmp_path / 'weights.npz'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(zipfile.ZipInfo(name), b'')
  assert 'it holds' in refused(path)


def test_a_name_that_is_there_twice(tmp_path):
  path = tmp_path / 'weights.npz'
  files.write(path, {'a': np.ones(3)})
  with pytest.warns(UserWarning, match='Duplicate'), zipfile.ZipFile(path, 'a') as archive:
    archive.writestr('a.npy', b'')
  assert "holds 'a.npy' twice" in refused(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
  path = tmp_path / 'weights.npz'
  np.savez_compressed(path, a=np.zeros(200 << 20, np.uint8))
  assert path.stat().st_size < 1 << 20
  monkeypatch.setattr(files, '_read_npy', None)  # whoever unpacks fails otherwise
  assert 'would unpack to 209,715,' in refused(path)


def test_members_that_promise_less_than_they_hold(tmp_path):
  """The sizes in the archive and in the array's header must agree."""
  path = tmp_path / 'weights.npz'
  with zipfile.ZipFile(path, 'w') as archive, archive.open('a.npy', 'w') as stream:
    np.lib.format.write_array_header_1_0(
      stream, {'descr': '<f4', 'fortran_order': False, 'shape': (1 << 40,)}
    )
    stream.write(b'1234')
  assert 'an array of shape (1099511627776,) and float32 is not 4 bytes' in refused(path)


@pytest.mark.parametrize('end', [')', '"', '-' * 9000 + '1'])
def test_an_npz_whose_header_cannot_be_parsed(end, tmp_path):
  header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'a': {end}".encode()
  path = tmp_path / 'weights.npz'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a.npy', b'\x93NUMPY\1\0' + struct.pack('<H', len(header)) + header)
  assert 'is no whole .npz' in refused(path)


@pytest.mark.parametrize(
  'header',
  [
    '{',
    '[]',
    *(
      json.dumps({'a': {'dtype': 'F32', 'shape': [size], 'data_offsets': [0, end]}})
      for size, end in ((4, 99), (9, 16), (-4, 16))
    ),
  ],
)
def test_safetensors_whose_header_lies(header, tmp_path):
  header = header.encode()
  path = tmp_path / 'weights.safetensors'
  path.write_bytes(struct.pack('<Q', len(header)) + header + bytes(16))
  refused(path)
  path.write_bytes(struct.pack('<Q', 1 << 60) + header)
  refused(path)


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_numbers_that_are_not_finite(suffix, value, tmp_path):
  path = tmp_path / f'weights{suffix}'
  files.write(path, {'head/bias': np.asarray([1, value], np.float32)})
  assert 'a number that is not finite in head/bias' in refused(path)


def test_a_double_too_large_for_float32_is_not_finite(tmp_path):
  path = tmp_path / 'weights.npz'
  files.write(path, {'a': np.asarray([1e300])})
  assert 'not finite in a' in refused(path)


@pytest.mark.parametrize(
  'array',
  [np.arange(3), np.ones(3, bool), np.ones(3, np.complex64), np.asarray(['a']), np.zeros(3, 'V4')],
)
def test_what_is_no_float(array, tmp_path):
  path = tmp_path / 'weights.npz'
  files.write(path, {'head/bias': array})
  assert f'holds {array.dtype} in head/bias' in refused(path)


@pytest.mark.parametrize('kind, size', [('F8_E4M3', 4), ('F8_E5M2', 4), ('I64', 32)])
def test_kinds_of_safetensors_that_are_no_weights(kind, size, tmp_path):
  path = tmp_path / 'weights.safetensors'
  header = json.dumps({'a': {'dtype': kind, 'shape': [4], 'data_offsets': [0, size]}}).encode()
  path.write_bytes(struct.pack('<Q', len(header)) + header + bytes(size))
  assert 'in a; weights are float16, bfloat16, float32 or float64' in refused(path)


@pytest.mark.parametrize('name, told', [('no.npz', 'there is no file'), ('a.h5', 'must end in')])
def test_what_is_no_file_of_weights(name, told, tmp_path):
  if name == 'a.h5':
    (tmp_path / name).write_bytes(b'')
  assert told in refused(tmp_path / name)
