"""Files of weights, {published name: array}: .npz and .safetensors, and nothing that unpickles."""

from __future__ import annotations

import json
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from vit_jax.errors import UserError

NOTES = 'vit_jax'  # their key in the metadata of safetensors
PICKLES = ('.pt', '.pth', '.bin', '.ckpt', '.pkl', '.pickle', '.tar')
# Weights hardly compress: whoever promises more than this many times the file is a bomb.
MOST_COMPRESSION = 50
SMALL = 64 << 20  # bytes that may be promised by any file
PIECE = 16 << 20  # bytes read at a time
_NARROW = ('F4', 'F6_', 'F8_')  # safetensors' kinds of float that numpy has no arrays of
_WIDE = 'weights are float16, bfloat16, float32 or float64'
_FAULTS = (
  zipfile.BadZipFile,
  zlib.error,
  EOFError,
  ValueError,
  OSError,
  NotImplementedError,
  RuntimeError,
  SyntaxError,
  TypeError,
  KeyError,
)  # of damaged and encrypted archives


def read(path: Path) -> dict[str, np.ndarray]:
  """All arrays of a file by name, as they are stored.

  Raises:
    UserError: there is no such file, it is damaged, or it is of a kind not read here.
  """
  if not path.is_file():
    raise UserError(f'there is no file of weights {path}')
  return format_of(path)[0](path)


def notes(path: Path) -> dict[str, Any]:
  """What a file that was read says of itself, where `write` was given notes."""
  if path.suffix.lower() == '.safetensors':
    with safetensors.safe_open(path, framework='numpy') as tensors:
      text = (tensors.metadata() or {}).get(NOTES, '')
  else:
    with zipfile.ZipFile(path) as archive:
      text = archive.comment
  try:
    found = json.loads(text)
  except ValueError:
    return {}
  return found if isinstance(found, dict) else {}


def write(
  path: Path, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any] | None = None
) -> None:
  """Writes a file that is either whole or not there.

  Args:
    notes: kept where other readers do not look: in safetensors' metadata or the zip comment.

  Raises:
    UserError: the name ends otherwise than .npz or .safetensors, or the disk refuses.
  """
  write_to = format_of(path)[1]
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    write_to(part, arrays, json.dumps(notes) if notes else '')
    os.replace(part, path)
  except OSError as error:
    raise UserError(f'{path} cannot be written: {error.strerror}') from None
  finally:
    part.unlink(missing_ok=True)


def floats(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
  """The same in float32.

  Raises:
    UserError: a leaf is no float, or not finite.
  """
  out = {}
  for name, array in arrays.items():
    if array.dtype == np.dtype('V2'):  # numpy has no word for bfloat16 in a file
      array = array.view(ml_dtypes.bfloat16)
    if array.dtype.name not in ('float16', 'bfloat16', 'float32', 'float64'):
      raise UserError(f'{where} holds {array.dtype} in {name}; {_WIDE}')
    with np.errstate(over='ignore'):  # told below
      array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
      raise UserError(
        f'{where} holds a number that is not finite in {name}; the file is damaged '
        'or its training diverged'
      )
    out[name] = array
  return out


def _read_npz(path: Path) -> dict[str, np.ndarray]:
  """Reads the arrays itself: each header is checked before a byte after it is read."""
  try:
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
        with archive.open(member) as stream:
          out[member.filename.removesuffix('.npy')] = _read_npy(stream, member.file_size)
      return out
  except _FAULTS as error:
    raise UserError(f'{path} is no whole .npz of arrays: {_first_line(error)}') from None


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


def _read_npy(stream: IO[bytes], size: int) -> np.ndarray:
  version = np.lib.format.read_magic(stream)
  headers: dict[Any, Callable] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  if version not in headers:
    raise ValueError(f'version {version} of the array format')
  try:
    shape, fortran, dtype = headers[version](stream)
  except (tokenize.TokenError, MemoryError):  # the parser's, where brackets are too deep
    raise ValueError('the header of an array is damaged') from None
  if dtype.hasobject:
    raise ValueError('it holds pickled objects, which are never read')
  count = math.prod(shape)
  if min(shape, default=0) < 0 or count * dtype.itemsize != size - stream.tell():
    raise ValueError(f'an array of shape {shape} and {dtype} is not {size - stream.tell()} bytes')
  array = np.empty(count, dtype)
  rest = array.view(np.uint8)
  # By pieces, or it would be held twice; until none is left, where the archive compares checksums.
  while piece := stream.read(PIECE):
    rest[: len(piece)] = np.frombuffer(piece, np.uint8)
    rest = rest[len(piece) :]
  if len(rest):
    raise EOFError(f'{len(rest)} bytes of an array are missing')
  return array.reshape(shape, order='F' if fortran else 'C')


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray], notes: str) -> None:
  with zipfile.ZipFile(path, 'w', allowZip64=True) as archive:
    archive.comment = notes.encode()
    for name, array in arrays.items():
      # Without a date: the same weights are the same file.
      with archive.open(zipfile.ZipInfo(f'{name}.npy'), 'w', force_zip64=True) as stream:
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
  try:
    with safetensors.safe_open(path, framework='numpy') as tensors:
      for name in tensors.keys():
        if (kind := tensors.get_slice(name).get_dtype()).startswith(_NARROW):
          raise UserError(f'{path} holds {kind} in {name}; {_WIDE}')
      return {name: tensors.get_tensor(name) for name in tensors.keys()}
  except (safetensors.SafetensorError, *_FAULTS) as error:
    raise UserError(f'{path} is no whole .safetensors: {_first_line(error)}') from None


def _write_safetensors(path: Path, arrays: Mapping[str, np.ndarray], notes: str) -> None:
  # Its own save_file makes a file that only its owner may read, and has errors of its own.
  path.write_bytes(
    safetensors.numpy.save(
      {name: np.asarray(array, order='C') for name, array in arrays.items()},
      {NOTES: notes} if notes else None,
    )
  )


def format_of(path: Path) -> tuple[Callable, Callable]:
  """How files of this name are read and written.

  Raises:
    UserError: they are not.
  """
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


def _first_line(error: BaseException) -> str:
  return (str(error) or type(error).__name__).split('\n')[0]


FORMATS = {'.npz': (_read_npz, _write_npz), '.safetensors': (_read_safetensors, _write_safetensors)}
