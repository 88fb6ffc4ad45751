"""Bytes of files that are damaged, or say anything."""

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.storm.verdicts import generator


def npz(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, 'w', compression) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return stream.getvalue()


def npy(array: Any) -> bytes:
  stream = io.BytesIO()
  np.lib.format.write_array(stream, np.asarray(array))
  return stream.getvalue()


def header(descr: str, shape: str, data: bytes = b'', order: str = 'False') -> bytes:
  """A .npy whose header says anything."""
  text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
  return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text) % 2**16) + text + data


def tensors(head: Any, data: bytes = b'', size: int | None = None) -> bytes:
  text = head if isinstance(head, bytes) else json.dumps(head).encode()
  return struct.pack('<Q', len(text) if size is None else size) + text + data


def flips(content: bytes, count: int, part: str, first: int = 0) -> Iterator[tuple[str, bytes]]:
  rng = generator(part)
  for _ in range(count):
    at, bit = rng.randrange(first, len(content)), rng.randrange(8)
    damaged = bytearray(content)
    damaged[at] ^= 1 << bit
    yield f'bit {bit} of byte {at}', bytes(damaged)


def cuts(content: bytes, count: int, part: str) -> Iterator[tuple[str, bytes]]:
  rng = generator(part)
  for at in (0, 1, 7, 8, 9, len(content) - 1, *(rng.randrange(len(content)) for _ in range(count))):
    yield f'cut at {at}', content[:at]
