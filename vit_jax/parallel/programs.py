"""JAX's persistent cache of compiled programs: on by default, bounded, and safe to lose."""

import hashlib
import logging
import os
import platform
from pathlib import Path
from typing import Any

import jax

from vit_jax.errors import UserError
from vit_jax.paths import local

LIMIT = 2**30  # bytes on disk, for each kind of machine
LEAST_SECONDS = 0.2  # to compile; faster programs are not worth a file
LOCK_SECONDS = 10.0  # as JAX waits for it

log = logging.getLogger(__name__)


def keep_programs(limit: int = LIMIT) -> None:
  """Keeps compiled programs in `folder()`, so that the next process need not compile them.

  The least recently used are removed beyond `limit` bytes. Leaves JAX as it is where the user has
  named a folder (JAX_COMPILATION_CACHE_DIR) or switched the cache off
  (JAX_ENABLE_COMPILATION_CACHE=false). A folder that cannot be written gives one warning.

  Call it before the first program is compiled.
  """
  config: Any = jax.config
  if config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache:
    return
  try:
    place = folder()
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_unfinished(place)
  except (OSError, UserError) as error:
    why = error.strerror if isinstance(error, OSError) else error
    log.warning('compiled programs are not kept: ~/.cache/vit_jax cannot be written (%s)', why)
    return
  config.update('jax_compilation_cache_max_size', limit)
  config.update('jax_persistent_cache_min_compile_time_secs', LEAST_SECONDS)
  # XLA's own files beside the programs, on GPUs, would be outside the limit.
  config.update('jax_persistent_cache_enable_xla_caches', 'none')
  config.update('jax_compilation_cache_dir', str(place))


def folder() -> Path:
  """Where programs are kept, for this kind of machine.

  In the user's own folder, not that of the data, which may be shared: whoever can write programs
  can run code as those who read them. A home folder may be shared by machines of several kinds,
  and JAX does not tell their processors apart: a program may use instructions that another lacks.

  Raises:
    UserError: the home folder is unknown.
  """
  kind = hashlib.sha256(f'{platform.machine()} {_processor()}'.encode()).hexdigest()[:12]
  return local('~/.cache/vit_jax') / 'programs' / kind


def _processor() -> str:
  """What the processor is and can do; its name alone where the system does not say more."""
  try:
    lines = Path('/proc/cpuinfo').read_text(errors='replace').partition('\n\n')[0].splitlines()
  except OSError:
    return platform.processor()
  wanted = ('model name', 'flags', 'Features', 'CPU implementer', 'CPU part')
  return '\n'.join(line for line in lines if line.partition('\t')[0].strip() in wanted)


def _remove_unfinished(place: Path) -> None:
  """Removes programs whose writing was cut short, which JAX would neither load nor replace.

  JAX writes a program, then the time of its last use beside it, both under this lock.

  Raises:
    OSError: the folder cannot be written.
  """
  import filelock  # here, because a bare image that only benches lacks it

  try:
    with filelock.FileLock(place / '.lockfile', timeout=LOCK_SECONDS):
      for program in place.glob('*-cache'):
        if not os.path.exists(f'{str(program).removesuffix("-cache")}-atime'):
          program.unlink()
  except filelock.Timeout:  # an OSError: others are busy here, and so it can be written
    return
