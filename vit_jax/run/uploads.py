"""Copies of a run that trains here, in the store that its folder is an address of.

A thread of each process uploads: small files at least every minute and with each save (process 0),
and of each checkpoint its part. Several processes share no disk: Orbax writes the arrays that a
process holds on its own disk, one file per shard, and the union of these files is the checkpoint.
A file that several have is uploaded by one of them. Once all have sent theirs, process 0 writes the
manifest, and then the index: only now the checkpoint is there (`remote/mirror.py`).

With config.checkpoint.upload_every = n every nth save is uploaded, beside training. The others are
only on the disks here until the run ends: a start that finds these disks goes on from them, one on
other hosts from the store.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Self

from vit_jax.config import Checkpoint
from vit_jax.errors import RunFault
from vit_jax.parallel.processes import Processes
from vit_jax.remote.mirror import CHECKPOINTS, Mirror, same
from vit_jax.remote.transfers import Entry, entry

EVERY = 60.0  # seconds from one upload of small files to the next
LAST = 'summary.json'  # with it a run has ended


class Uploads:
  """From `with` to its end. All processes of a run call all methods together.

  Attributes:
    held: steps whose upload is under way, as all processes know: no disk may lose them.
    waiting: makes the context in which the main thread waits for uploads.
    done: called after each upload with its step, bytes (of all processes) and seconds.
  """

  def __init__(self, mirror: Mirror, here: Processes, options: Checkpoint, limit: float):
    """Until all processes have sent their part of a checkpoint, `limit` seconds may pass."""
    self._mirror, self._here, self._options, self._limit = mirror, here, options, limit
    self.held: frozenset[int] = frozenset()
    self.waiting: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    self.done: Callable[[int, int, float], None] = lambda step, size, seconds: None
    self._index: dict[str, Any] = {}
    self._sent: dict[str, tuple[int, int]] = {}  # name -> size and time of what was uploaded
    self._saves = 0  # of this start
    self._count = 0  # of uploads of checkpoints, the same on all processes
    self._left: set[int] = set()  # steps of `held` that this process has not uploaded
    self._queue: list[int] = []  # those of them that are on this disk
    self._failure: BaseException | None = None
    self._news = threading.Condition()
    self._noting = threading.Lock()
    self._over = False

  def __enter__(self) -> Self:
    """Makes this copy and the store one, by whichever the run went on with last."""
    mirror, here = self._mirror, self._here
    with mirror.alone():
      self._index = here.share(mirror.index)
      there = self._index[CHECKPOINTS]
      alike = all(here.gather(bool(mirror.note.id) and mirror.note.id == self._index['id']))
      waiting: list[int] = []
      if alike:  # no other host went on: what is here was saved later, or is the same
        known = mirror.note.uploaded()
        mine = [step for step in mirror.steps() if not same(known.get(step), there.get(str(step)))]
        waiting = self._on_all(mine)
      elif here.index == 0:
        mirror.pull_files(self._index['files'])
      mirror.pull_checkpoints(there, keep=waiting)
      if here.index == 0:
        self._note_sent()
        self._push()
      for step in waiting if self._options.upload_every == 1 else ():
        self._upload(step)
      if here.index == 0:
        mirror.remove_saves(self._index[CHECKPOINTS].values())
        self._index['id'] = uuid.uuid4().hex
        mirror.write_index(self._index)
      self._index = here.share(lambda: self._index)
      if here.index > 0:
        mirror.pull_files(self._index['files'])
      mirror.note.id = self._index['id']
    self._thread = threading.Thread(target=self._run, name='uploads', daemon=True)
    self._thread.start()
    return self

  def __exit__(self, kind: type | None, *error: Any) -> None:
    """Uploads what is left; after an error, what goes wrong in that is not raised."""
    with self._news:
      self._over = True
      self._news.notify_all()
    self._thread.join()
    if self._here.index == 0 and self._failure is None:
      there = self._index[CHECKPOINTS]
      if kind is None:  # else one may be on its way, and its predecessor set aside
        there = {step: there[step] for step in there if int(step) in self._mirror.steps()}
      try:
        self._push(there if there != self._index[CHECKPOINTS] else None)
        self._mirror.remove_saves(there.values())
      except Exception:
        if kind is None:
          raise

  def begin(self, step: int) -> bool:
    """Before a save of a step: whether it is to be uploaded, for which it waits for earlier ones.

    Raises:
      Exception: what went wrong in an upload.
    """
    self._saves += 1
    due = self._saves % self._options.upload_every == 0
    if due or step in self.held:
      self.settle()
    elif self.held and all(self._here.gather(not self._left)):
      self.held = frozenset()
    self._note(step, None)  # what will be here is not what is in the store
    return due

  def save(self, step: int, best: Collection[int], saved: Any) -> None:
    """Uploads the checkpoint of a step once it is on this disk, which Orbax's future tells.

    The best ones go with it if they are not in the store: after it no other may be taken for best.
    """
    known = self._mirror.note.uploaded()
    steps = [*(other for other in best if other not in known and other != step), step]
    self._hold(steps)
    saved.on_complete(lambda _: self._send(steps))

  def settle(self) -> None:
    """Waits for the uploads under way, and raises what went wrong in them."""
    if self.held:
      with self.waiting(), self._news:
        self._news.wait_for(lambda: not self._left or self._failure is not None)
    self.check()
    self.held = frozenset()

  def finish(self) -> None:
    """Uploads all checkpoints that are only here, the newest first, and waits for it."""
    self.settle()
    known = self._mirror.note.uploaded()
    only_here = [step for step in self._mirror.steps() if step not in known]
    if steps := self._on_all(only_here)[::-1]:
      self._hold(steps)
      self._send(steps)
      self.settle()

  def check(self) -> None:
    """Raises what went wrong in uploading, as soon as that is known."""
    if self._failure is not None:
      raise self._failure

  def complete(self, step: int) -> None:
    """Fetches what this disk lacks of a checkpoint: what other processes or hosts wrote."""
    self._mirror.complete(step)

  def _on_all(self, steps: Sequence[int]) -> list[int]:
    """Those of these steps that all processes have, in order."""
    return sorted(set.intersection(*map(set, self._here.gather(steps))))

  def _hold(self, steps: Sequence[int]) -> None:
    self.held |= {*steps}
    with self._news:
      self._left |= {*steps}

  def _send(self, steps: Sequence[int]) -> None:
    with self._news:
      self._queue += steps
      self._news.notify_all()

  def _run(self) -> None:
    try:
      pushed = time.monotonic()
      while True:
        with self._news:
          rest = pushed + EVERY - time.monotonic()
          self._news.wait_for(lambda: self._over or self._queue, max(rest, 0))
          step, over = next(iter(self._queue), None), self._over
        if step is not None:
          self._upload(step)
          with self._news:
            self._queue.pop(0)
            self._left.discard(step)
            self._news.notify_all()
        elif over:
          return
        elif self._here.index == 0:
          self._push()
        pushed = time.monotonic()
    except BaseException as error:  # noqa: BLE001 (the main thread raises it)
      with self._news:
        self._failure = error
        self._news.notify_all()

  def _upload(self, step: int) -> None:
    mirror, here, began = self._mirror, self._here, time.monotonic()
    self._count += 1
    has = self._all(mirror.files_of(step), 'has')
    if not all(has):
      raise RunFault(f'the checkpoint of step {step} left {mirror.folder} before it was uploaded')
    name = f'{step}-{self._all(uuid.uuid4().hex[:8], "name")[0]}'
    mine = [file for file, owner in _owners(has).items() if owner == here.index]
    with ThreadPoolExecutor(1) as side:
      sending = side.submit(mirror.put_checkpoint, step, name, mine)
      while not wait([sending], EVERY).done:
        if here.index == 0:
          self._push()  # small files do not wait for large ones
    files: dict[str, Entry] = {}
    for sent in self._all(sending.result(), 'sent'):
      files |= sent
    if here.index == 0:
      self._commit(step, name, files)
    kept = self._all(list(self._index[CHECKPOINTS]), 'committed')[0]
    self._note(step, name, files)
    for old in mirror.note.uploaded().keys() - {*map(int, kept)}:
      self._note(old, None)
    self.done(step, sum(size for size, _ in files.values()), time.monotonic() - began)

  def _note(self, step: int, name: str | None, files: Mapping[str, Entry] = {}) -> None:
    with self._noting:  # both threads do
      self._mirror.note.set_uploaded(step, name, files)

  def _commit(self, step: int, name: str, files: Mapping[str, Entry]) -> None:
    """The index is written last; then what it no longer names is removed."""
    mirror = self._mirror
    mirror.put_manifest(name, files)
    there = {**self._index[CHECKPOINTS], str(step): name}
    last = sorted(mirror.note.uploaded().keys() | {step})[-self._options.keep_last :]
    kept = {*mirror.steps(), *last}  # of the last ones here some may not be uploaded
    self._push({key: value for key, value in there.items() if int(key) in kept})
    mirror.remove_saves(self._index[CHECKPOINTS].values())

  def _push(self, checkpoints: Mapping[str, str] | None = None) -> None:
    """Uploads small files that have changed, and then the index.

    Raises:
      RunFault: another process went on with the run.
    """
    mirror, files = self._mirror, dict(self._index['files'])
    found = mirror.files()
    changed = [name for name in found if self._sent.get(name) != found[name]]
    gone = [name for name in files if name not in found]
    if not changed and not gone and checkpoints is None:
      return
    if self._index['id'] and mirror.index()['id'] != self._index['id']:
      raise RunFault(f'{mirror.address} was taken over by another process: this one was silent')
    for name in sorted(changed, key=lambda name: (name == LAST, name)):
      if sent := mirror.put(name):
        files[name] = sent
    for name in gone:
      del files[name]
    there = self._index[CHECKPOINTS] if checkpoints is None else checkpoints
    self._index = {**self._index, 'files': files, CHECKPOINTS: there}
    mirror.write_index(self._index)
    mirror.there.remove(gone)
    self._sent = found

  def _note_sent(self) -> None:
    """Finds which files here are those of the index."""
    files, found = self._index['files'], self._mirror.files()
    self._sent = {
      name: found[name]
      for name in found.keys() & files.keys()
      if entry(self._mirror.folder / name) == files[name]
    }

  def _all(self, value: Any, what: str) -> Sequence[Any]:
    """The value of each process in this upload."""
    name = f'upload/{self._count}/{what}'
    answers = self._here.gather({'value': value}, name, self._limit)
    silent = [str(index) for index, answer in enumerate(answers) if answer is None]
    if silent:
      raise RunFault(
        f'process {", ".join(silent)} did not upload its part of a checkpoint to '
        f'{self._mirror.address} within {self._limit:g} s (config.limits.save)'
      )
    return [answer['value'] for answer in answers]


def _owners(has: Sequence[Mapping[str, int]]) -> dict[str, int]:
  """Which process uploads each file: of those that have it, the one with the least so far.

  Every process comes to the same answer.
  """
  load, owners = [0] * len(has), {}
  for file in sorted({*(file for files in has for file in files)}):
    holders = [index for index, files in enumerate(has) if file in files]
    owners[file] = min(holders, key=lambda index: (load[index], index))
    load[owners[file]] += has[owners[file]][file]
  return owners
