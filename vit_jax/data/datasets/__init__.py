"""Data sets that we build ourselves, and the one way to prepare any data set."""

import contextlib
import difflib
import importlib
import os
import shutil
import time
from pathlib import Path

import tensorflow_datasets as tfds

from vit_jax.config.images import LISTED
from vit_jax.data import prepared
from vit_jax.errors import UserError, nearest, storage_sentence
from vit_jax.paths import is_address, local
from vit_jax.remote.data import address_of, fetch_description

# Name -> builder class, in the module of that name.
OURS = {
  'earth_climate': 'EarthClimate', 'fashion_mnist': 'FashionMnist', 'emoji_styles': 'EmojiStyles',
  'noto_scripts': 'NotoScripts', 'mnist_10k': 'Mnist10k', 'digits': 'Digits',
}  # fmt: skip

STALE_SECONDS = 3600  # older remains of a killed preparation are removed


def prepare(name: str, data_dir: str | os.PathLike[str]) -> Path:
  """The folder of a data set's version in `data_dir`; builds one of ours if missing or outdated.

  TFDS builds it in another folder and renames it when complete: a killed preparation leaves nothing
  that looks like a data set, and of several processes the first to finish wins.

  Raises:
    UserError: not one of ours and not prepared (with the command that prepares it), a package it
      is made from is not installed, or `data_dir` cannot be written.
  """
  data_dir = local(data_dir).absolute()
  fetch_description(data_dir, name)
  found = prepared.find(name, data_dir)
  base, _, version = name.partition(':')
  if base not in OURS or (found and version):
    if not found:
      raise _not_prepared(name, data_dir)
    return found
  cls = getattr(importlib.import_module(f'{__name__}.{base}'), OURS[base])
  if found and tfds.core.Version(found.name) >= cls.VERSION:  # ours, or TFDS's own
    return found
  if version not in ('', str(cls.VERSION)):
    raise UserError(f'data set {base!r} is built as version {cls.VERSION}, not {version!r}')
  directory = data_dir / base / str(cls.VERSION)
  tfds.disable_progress_bar()  # `PackageBuilder.progress` has one
  try:
    with contextlib.redirect_stdout(None):  # TFDS prints about downloads, of which there are none
      cls(data_dir=data_dir).download_and_prepare(file_format='array_record')
  except (OSError, RuntimeError) as error:
    if isinstance(error, RuntimeError) and not storage_sentence(error, data_dir):
      raise  # ArrayRecord raises a RuntimeError if the disk is full, but this is another
    if not directory.is_dir():  # else another process was faster
      raise UserError(f'data set {base!r} cannot be written to {data_dir}: {error}') from error
  print(f'prepared data set {base} in {directory}', flush=True)
  remove_stale(directory.parent, f'incomplete.*_{directory.name}')
  return directory


def remove_stale(parent: Path, pattern: str) -> None:
  """Removes what killed preparations have left in the folder of a data set."""
  for left in parent.glob(pattern):
    if time.time() - left.stat().st_mtime > STALE_SECONDS:
      shutil.rmtree(left, ignore_errors=True)


def _not_prepared(name: str, data_dir: Path) -> UserError:
  base = name.partition(':')[0].partition('/')[0]
  if base.partition(':')[0] in LISTED:
    return UserError(f'{base} is read as it is, or prepared under another name by --to=NAME')
  if is_address(name):
    return UserError(
      f'{name} is an address, and images are read from this machine or from prepared data sets; '
      'prepare them (vit_jax prepare folder:DIR --to=NAME), copy the folder NAME to a bucket, and '
      'give NAME with --data_dir=gs://BUCKET/data'
    )
  known = tfds.list_builders(with_community_datasets=False)
  if base not in known:
    hint = nearest(base, {*OURS, *LISTED, *difflib.get_close_matches(base, known)})
    return UserError(f"there is no data set {name!r} here or in TFDS's catalog; {hint}")

  def build(folder: Path | str) -> str:
    return (
      f'prepare it once, {prepared.TFDS_COMMAND} build {name} --data_dir={folder} '
      '--file_format=array_record'
    )

  if address := address_of(data_dir):
    return UserError(
      f'data set {name!r} is not at {address}; {build("DIR")}, and copy DIR/{base} to '
      f'{address}/{base}'
    )
  return UserError(
    f'data set {name!r} is not prepared in {data_dir} (--data_dir or VIT_JAX_DATA_DIR name another '
    f'folder); {build(data_dir)}'
  )
