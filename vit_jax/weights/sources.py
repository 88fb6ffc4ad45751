"""Where weights come from: a run folder, a file, a Hugging Face folder, or an address."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from vit_jax import fields, models
from vit_jax.config import PairData
from vit_jax.errors import UserError
from vit_jax.layouts import files, preprocessing
from vit_jax.layouts.published import find
from vit_jax.models.inputs import Inputs
from vit_jax.paths import FILES_ONLY, is_address, local, scheme
from vit_jax.redaction import redacted
from vit_jax.remote.fetch import NotThere, fetch
from vit_jax.remote.runs import find_run
from vit_jax.run import Run
from vit_jax.trees import flatten_variables
from vit_jax.weights import augreg, huggingface
from vit_jax.weights.stored import Stored, published


def is_translation(source: str) -> bool:
  """Whether weights are those of a translation run; raises a UserError if there are none."""
  place, _ = locate(source)
  if not isinstance(place, Path) or not place.is_dir():
    return False
  run = Run(place)
  return run.exists and isinstance(run.experiment.data, PairData)


def read(source: str, checkpoint: str, cache: Path) -> Stored:
  """The weights of a source, and what it says of their model.

  Args:
    source: a run folder, also RUN@best or RUN@1200; a .npz or .safetensors; a folder of Hugging
      Face or of timm; an address of a run folder or of one of those files (gs://, s3://, https://),
      or hf://ORG/NAME; or augreg:NAME (see `augreg`). A folder or file whose own name has an '@' is
      taken as it is.
    checkpoint: of a run folder: 'last', 'best' or a step.
    cache: folder for files from elsewhere.

  Raises:
    UserError: it is missing, damaged, or of no known kind.
  """
  place, checkpoint = locate(source, checkpoint)
  if isinstance(place, Path) and place.is_dir() and not huggingface.is_model(place):
    return _read_run(Run(place), checkpoint)
  if checkpoint != 'last':
    raise UserError(f'--checkpoint is {checkpoint!r}, but {source} is no run folder')
  if isinstance(place, Path) and place.is_dir():
    return huggingface.read_folder(place)
  if source.startswith(huggingface.PREFIX):
    return huggingface.read_repository(source, cache)
  address = str(place)
  if source.startswith(augreg.PREFIX):
    address = augreg.address(source, cache, augreg.DIRECTORY)
  where = redacted(address).partition('#')[0]
  try:
    path = fetch(address, cache)
  except NotThere:
    if _is_of_file(address):
      raise
    raise UserError(f'there is no run folder or file {where}') from None
  stored, notes = published(files.read(path), where), files.notes(path)
  inputs, remarks = _inputs_of_notes(notes, where)
  stored = replace(stored, inputs=inputs, remarks=(*stored.remarks, *remarks))
  if 'options' not in notes:
    known = find(where)
    said = {'name': known.model, 'options': known.options} if known else {}
    return replace(stored, known=known, **said)
  size = inputs and inputs.size
  return replace(stored, name=notes.get('model', ''), options=notes['options'], table_size=size)


def locate(source: str, checkpoint: str = 'last') -> tuple[Path | str, str]:
  """(the folder, file or address that a source means, the checkpoint that it means).

  Of a run folder at an address, the folder is its local copy.

  Raises:
    UserError: there is no such folder or file.
    StoreFault: the store does not answer.
  """
  if source.startswith(augreg.PREFIX):
    return source, checkpoint
  if is_address(source):
    return _run_in_store(source, checkpoint) or (source, checkpoint)
  path = local(source)
  if path.exists():
    return path, checkpoint
  run, at, which = source.rpartition('@')
  if at and local(run).is_dir():
    return local(run), _named(source, which, checkpoint)
  if not local(source.partition('#')[0]).exists():
    raise UserError(f'there is no run folder or file {source}{_published_as(source)}')
  return source, checkpoint


def _run_in_store(source: str, checkpoint: str) -> tuple[Path, str] | None:
  """(the local copy of the run folder at an address, the checkpoint); None of other addresses."""
  if _is_of_file(source):
    return None
  if folder := find_run(source):
    return folder, checkpoint
  run, at, which = source.rpartition('@')
  if at and '/' not in which and (folder := find_run(run)):
    return folder, _named(source, which, checkpoint)
  return None


def _is_of_file(address: str) -> bool:
  """Whether an address can only be that of a file."""
  name = PurePosixPath(address.partition('#')[0])
  return scheme(address) in FILES_ONLY or name.suffix in files.FORMATS


def _named(source: str, which: str, checkpoint: str) -> str:
  """The checkpoint that a source names, if no flag names another."""
  if checkpoint not in ('last', which):
    raise UserError(f'--checkpoint is {checkpoint!r}, but {source} names another checkpoint')
  return which


def _published_as(source: str) -> str:
  """Where weights of this published name are; '' if it is none."""
  known = find(source)
  if known is None or known.owner not in ('timm', 'Hugging Face'):
    return ''
  if known.owner == 'Hugging Face':
    return f'; the weights of that name are hf://{source.removeprefix("timm/")}'
  name = source.removeprefix('timm/')
  if '.' in name:
    return f"; timm's weights of that name are hf://timm/{name}"
  return (
    f"; timm's weights of that name are hf://timm/{name}.TAG, where TAG says how they were "
    f'trained: see https://huggingface.co/timm?search_models={name}'
  )


def inputs_of(source: str, name: str) -> Inputs:
  """The images that a source's weights expect, without reading the weights.

  If the source does not say, those of the published weights of the model `name`.
  """
  try:
    place, _ = locate(source)
  except UserError:  # it may come later
    place = ''
  found = None
  if isinstance(place, Path) and place.is_file():
    found = _inputs_of_notes(files.notes(place), source)[0]
  elif isinstance(place, Path):
    found = huggingface.inputs_of(place) if huggingface.is_model(place) else Run(place).inputs
  if found is None and (known := find(source)) and known.model == name:
    found = known.inputs
  return found or models.inputs_of(name)


def _inputs_of_notes(notes: Mapping[str, Any], where: str) -> tuple[Inputs | None, tuple[str, ...]]:
  """(the images that a file says it expects, remarks): ours, or in the words of others."""
  if 'inputs' in notes:
    inputs = fields.build(Inputs, {**notes['inputs'], 'source': 'its metadata'}, f'{where}: inputs')
    return inputs, ()
  return huggingface.inputs_of_config(notes, notes.get(preprocessing.HUGGING_FACE) or {}, where)


def _read_run(run: Run, checkpoint: str) -> Stored:
  x, inputs = run.experiment, run.inputs  # refuses a run on sentences
  variables, step = run.variables(checkpoint)
  where = f'{run.place} at step {step}'
  leaves = files.floats(flatten_variables(variables), where)
  name, options = x.model.name, fields.plain(x.model.options)
  size, loss = x.images.image_size, x.loss.name
  return Stored(where, leaves, None, name, options, inputs, size, loss=loss)
