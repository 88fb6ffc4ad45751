"""Decodes a rectangle of a JPEG alone, where nvImageCodec is installed (the extra `crops`).

It drives libjpeg-turbo, as simplejpeg does, and leaves out the inverse transform of what is outside
the rectangle; the pixels are the same. The Huffman codes above it must still be read.
"""

import functools
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

END = b'\xff\xd9'  # of a complete JPEG
# Of the image: a larger rectangle takes longer than decoding all of it with simplejpeg.
LARGEST_SHARE = 0.8

_of_thread = threading.local()


@functools.cache
def available() -> bool:
  """Whether nvImageCodec is installed. Loads it: call this before there are threads."""
  try:
    if importlib.util.find_spec('nvidia.nvimgcodec') is None:
      return False
  except ModuleNotFoundError:  # `nvidia` itself
    return False
  with _quiet():
    _decoder()
  return True


def decode(record: bytes, top: int, left: int, height: int, width: int) -> np.ndarray | None:
  """The rectangle as RGB, uint8 [height, width, 3], of a JPEG in YCbCr.

  None where it cannot be decoded, or the file is cut short: decoding all of it says why.
  """
  if not record.endswith(END):  # a rectangle above the cut would be decoded nevertheless
    return None
  codec, (decoder, parameters) = _library(), _decoder()
  region = codec.Region(top, left, top + height, left + width)
  part = decoder.decode(
    codec.CodeStream(record).get_sub_code_stream(region=region), params=parameters
  )
  return None if part is None else np.asarray(part)


def _library() -> Any:
  return importlib.import_module('nvidia.nvimgcodec')


def _decoder() -> tuple[Any, Any]:
  """(this thread's decoder, how it decodes: by this thread alone, as stored)."""
  if not hasattr(_of_thread, 'decoder'):
    codec = _library()
    cpu = [codec.Backend(codec.BackendKind.CPU_ONLY)]
    device = codec.NVIMGCODEC_DEVICE_CPU_ONLY
    made = codec.Decoder(device_id=device, max_num_cpu_threads=1, backends=cpu)
    as_stored = codec.DecodeParams(
      apply_exif_orientation=False, sample_format=codec.SampleFormat.I_RGB
    )
    _of_thread.decoder = made, as_stored
  return _of_thread.decoder


@contextmanager
def _quiet() -> Iterator[None]:
  """Nothing reaches stderr: where there is no CUDA the library complains, of codecs for GPUs."""
  if sys.stderr is None:  # closed by whoever started the process
    yield
    return
  sys.stderr.flush()
  kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nothing, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nothing)
