"""Files of weights, {published name: array}: .npz and .safetensors, and nothing that unpickles."""

import json
import logging
import math
import tokenize
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from vit_jax.errors import UserError, writing
from vit_jax.writes import output

log = logging.getLogger(__name__)

NOTES = 'vit_jax'  # their key in the metadata of safetensors
# Keys of notes that others may write, or read, as metadata of their own: see `preprocessing`.
SHARED_NOTES = ('pretrained_cfg', 'preprocessor_config')
NPZ_NOTES = 65_535  # bytes that the comment of a zip has room for
PICKLES = ('.pt', '.pth', '.bin', '.ckpt', '.pkl', '.pickle', '.tar')
# Weights hardly compress: a file that unpacks to more than this many times its size is a bomb.
MOST_COMPRESSION = 50
SMALL = 64 << 20  # bytes that any file may unpack to
_NARROW = ('F4', 'F6_', 'F8_')  # kinds of float in safetensors that numpy has no arrays of
_WIDE = 'weights are float16, bfloat16, float32 or float64'


def read(path: Path) -> dict[str, np.ndarray]:
  """All arrays of a file by name, as they are stored.

  Raises:
    UserError: there is no such file, it is damaged, or it is of a kind not read here.
  """
  return _whole(path, format_of(path).read)


def notes(path: Path) -> dict[str, Any]:
  """The notes that were given to `write`, or {}; raises as `read`."""
  try:
    found = json.loads(_whole(path, format_of(path).read_notes))
  except ValueError:
    return {}
  return found if isinstance(found, dict) else {}


def _whole(path: Path, read_from: Callable[[Path], Any]) -> Any:
  if not path.is_file():
    raise UserError(f'there is no file of weights {path}')
  try:
    return read_from(path)
  except (UserError, MemoryError):
    raise
  except Exception as error:  # of ten kinds, if an archive is damaged or encrypted
    why = (str(error) or type(error).__name__).split('\n')[0]
    raise UserError(f'{path} is no whole {path.suffix.lower()}: {why}') from None


def write(
  path: Path, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any] | None = None
) -> None:
  """Writes a whole file or none.

  Args:
    notes: stored in the metadata of a .safetensors, or in the comment of the zip (up to
      `NPZ_NOTES`), which other readers ignore.

  Raises:
    UserError: the name does not end in .npz or .safetensors, or the file cannot be written.
  """
  write_to = format_of(path).write
  with output(path) as file:
    write_to(file, arrays, json.dumps(notes) if notes else '')


def kept(
  path: Path,
  make: Callable[[], dict[str, np.ndarray]],
  fits: Callable[[Mapping[str, np.ndarray]], bool],
) -> dict[str, np.ndarray]:
  """Arrays that are made once and then read; what is damaged is made again, and said.

  The format has a checksum of each array.

  Args:
    fits: whether arrays are such as `make` gives; a KeyError says that they are not.

  Raises:
    UserError: they cannot be written.
  """
  if path.exists():
    why = 'it holds something else'
    try:
      stored = read(path)
      if fits(stored):
        return stored
    except UserError as error:
      why = str(error)
    except KeyError as error:
      why = f'it has no {error}'
    log.warning('%s is damaged (%s); it is made again', path, why)
    if not path.is_file():  # such as a pipe, which would be written in place
      with writing(path):
        path.unlink()
  arrays = make()
  with writing(path.parent):
    path.parent.mkdir(parents=True, exist_ok=True)
  write(path, arrays)
  return arrays


def floats(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
  """The same in float32; raises UserError if a leaf is not float, or not finite."""
  out = {}
  for name, array in arrays.items():
    if array.dtype == np.dtype('V2'):  # numpy has no word for bfloat16 in a file
      array = array.view(ml_dtypes.bfloat16)
    if array.dtype.name not in ('float16', 'bfloat16', 'float32', 'float64'):
      raise UserError(f'{where} holds {array.dtype} in {name}; {_WIDE}')
    with np.errstate(over='ignore'):  # found below
      array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
      raise UserError(
        f'{where} holds a number that is not finite in {name}; the file is damaged '
        'or its training diverged'
      )
    out[name] = array
  return out


def _read_npz(path: Path) -> dict[str, np.ndarray]:
  """Unlike `np.load`, checks what the archive and each array promise before reading it."""
  _check_end(path)
  with zipfile.ZipFile(path) as archive:
    members = archive.infolist()
    _check_members(path, [member.filename for member in members])
    promised, size = sum(member.file_size for member in members), path.stat().st_size
    if promised > max(SMALL, MOST_COMPRESSION * size):
      raise UserError(
        f'{path} is {size:,} bytes but would unpack to {promised:,}; no file of weights does that'
      )
    out = {}
    for member in members:
      out[member.filename.removesuffix('.npy')] = _read_npy(archive, member)
    return out


def _check_end(path: Path) -> None:
  """Raises a ValueError if the comment, which `zipfile` reads as far as it goes, is cut."""
  with path.open('rb') as file:
    file.seek(max(0, path.stat().st_size - 22 - NPZ_NOTES))
    tail = file.read()
  end = tail.rfind(b'PK\5\6')
  if end >= 0 and len(tail) != end + 22 + int.from_bytes(tail[end + 20 : end + 22], 'little'):
    raise ValueError('its end is cut off or overwritten')


def _check_members(path: Path, names: list[str]) -> None:
  odd = [
    name
    for name in names
    if not name.endswith('.npy') or name.startswith('/') or '\\' in name or '..' in name.split('/')
  ]
  if odd:
    raise UserError(f'{path} is no .npz of arrays: it holds {odd[0]!r}')
  if len(set(names)) < len(names):
    twice = next(name for name in names if names.count(name) > 1)
    raise UserError(f'{path} holds {twice!r} twice')


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
  headers: dict[Any, Callable] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  with archive.open(member) as stream:
    version = np.lib.format.read_magic(stream)
    if version not in headers:
      raise ValueError(f'version {version} of the array format')
    try:
      shape, _, dtype = headers[version](stream)
    except (tokenize.TokenError, MemoryError, ValueError):  # the parser's, of any text
      raise ValueError(f'the header of {member.filename} is damaged') from None
    size = member.file_size - stream.tell()
    if dtype.hasobject:
      raise ValueError('it holds pickled objects, which are never read')
    if not dtype.itemsize:  # such an array has no bytes, whatever its shape
      raise ValueError(f'{member.filename} is of {dtype.str}')
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size:
      raise ValueError(f'an array of shape {shape} and {dtype} is not {size} bytes')
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _read_npz_notes(path: Path) -> bytes:
  with zipfile.ZipFile(path) as archive:
    return archive.comment


def _write_npz(file: IO[bytes], arrays: Mapping[str, np.ndarray], notes: str) -> None:
  with zipfile.ZipFile(file, 'w', allowZip64=True) as archive:
    archive.comment = notes.encode()
    for name, array in arrays.items():
      # Without a date, the same weights give the same file.
      with archive.open(zipfile.ZipInfo(f'{name}.npy'), 'w', force_zip64=True) as stream:
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
  with safetensors.safe_open(path, framework='numpy') as tensors:
    for name in tensors.keys():
      if (kind := tensors.get_slice(name).get_dtype()).startswith(_NARROW):
        raise UserError(f'{path} holds {kind} in {name}; {_WIDE}')
    return {name: tensors.get_tensor(name) for name in tensors.keys()}


def _read_safetensors_notes(path: Path) -> str:
  with safetensors.safe_open(path, framework='numpy') as tensors:
    metadata = tensors.metadata() or {}
  notes = json.loads(metadata.get(NOTES) or '{}')
  others = {key: json.loads(metadata[key]) for key in SHARED_NOTES if key in metadata}
  return json.dumps(others | notes)


def _write_safetensors(file: IO[bytes], arrays: Mapping[str, np.ndarray], notes: str) -> None:
  # safetensors' save_file makes a file that only its owner may read, and has its own errors.
  metadata = {'format': 'pt', **({NOTES: notes} if notes else {})}  # transformers wants a format
  said = json.loads(notes or '{}')
  metadata |= {key: json.dumps(said[key]) for key in SHARED_NOTES if key in said}
  whole = {name: np.asarray(array, order='C') for name, array in arrays.items()}
  data = memoryview(safetensors.numpy.save(whole, metadata))
  end = 8 + int.from_bytes(data[:8], 'little')
  # Its header is in any order; sorted, the same weights give the same file.
  header = json.dumps(json.loads(bytes(data[8:end])), sort_keys=True).encode()
  header += b' ' * (-len(header) % 8)
  file.write(len(header).to_bytes(8, 'little') + header)
  file.write(data[end:])


class Format(NamedTuple):
  read: Callable[[Path], dict[str, np.ndarray]]
  read_notes: Callable[[Path], str | bytes]
  write: Callable[[IO[bytes], Mapping[str, np.ndarray], str], None]


FORMATS = {
  '.npz': Format(_read_npz, _read_npz_notes, _write_npz),
  '.safetensors': Format(_read_safetensors, _read_safetensors_notes, _write_safetensors),
}


def format_of(path: Path) -> Format:
  """How files of this name are read and written; raises UserError if they are not."""
  suffix = path.suffix.lower()
  if suffix in PICKLES:
    raise UserError(
      f'{path} is a pickle, which can run any program when read and is never opened '
      'here; save its state dict as .safetensors (safetensors.torch.save_file)'
    )
  if suffix not in FORMATS:
    raise UserError(
      f'{path} is no file of weights known here; it must end in {" or ".join(FORMATS)}'
    )
  return FORMATS[suffix]
