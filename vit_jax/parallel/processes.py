"""The processes of one run: how they find each other, communicate, and end together.

They run the same program and communicate over JAX's coordination service, a small key-value store
apart from the network of the devices: nothing here waits for a device or slows a step. What
concerns all is a numbered request, which every process receives on a thread of its own, even while
its main thread computes, compiles or hangs.
"""

import functools
import itertools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, Self

import jax
from jax._src import distributed  # the key-value store has no public name

from vit_jax.config import Limits
from vit_jax.errors import RunFault, UserError, first_line, print_error, verdict
from vit_jax.parallel import places
from vit_jax.parallel.heartbeat import SLACK, Heartbeats

ROOT = 'vit_jax'
HOUR_MS = 3_600_000
PATIENCE = 15.0  # seconds that a process waits for a roll call before it exits
GRACE = 2.0  # seconds for the others to hear that the coordinator is about to exit

Gather = Callable[..., list[Any]]


class Processes:
  """This process among those of the run. A single process needs no network.

  Attributes:
    on: the handler of each kind of request, called with it and a `gather` of its own, not on the
      main thread.
    at_exit: functions that `leave` first calls with the exit code.
  """

  def __init__(self, limits: Limits, client: Any = None, index: int = 0, count: int = 1):
    self.index, self.count = index, count
    self.on: dict[str, Callable[[dict[str, Any], Gather], None]] = {'fault': self._fault_elsewhere}
    self.at_exit: list[Callable[[int], None]] = []
    self._limits, self._client = limits, client
    self._numbers = itertools.count()
    self._received = 0  # requests so far
    self._news = threading.Condition()
    self._ended = False  # by a fault of another process
    self._listening = False
    self._heartbeats: Heartbeats | None = None
    self._leaving = threading.Lock()  # taken by the one thread that ends the process

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
    """Waits for the others; after a fault, ends them too, with the same exit code."""
    if self._client is None:
      return
    if error is None:
      try:
        barrier, save = self._limits.barrier, self._limits.save  # process 0 may still be writing
        self._wait('end', barrier and barrier + save)
        self._leaving.acquire()  # the run is done; later requests change nothing
        jax.distributed.shutdown()
        return
      except Late as late:
        error = late
    if not self._ended:  # else another process's fault caused this one
      code, sentence = verdict(error)
      if sentence is None:
        traceback.print_exception(error)
      sentence = sentence or f'process {self.index} failed: {first_line(error)}'
      print_error(sentence)
      try:
        self.post('stuck' if isinstance(error, Late) else 'fault', code=code, sentence=sentence)
      except RuntimeError:
        pass  # the service ended first, and the others end with it
      if isinstance(error, Late):
        time.sleep(PATIENCE)  # the roll call ends this process
      self.leave(code)
    threading.Event().wait()

  def listen(self) -> None:
    """Receives requests from now on, and earlier ones. Call when `on` is complete."""
    if self._client is not None and not self._listening:
      self._listening = True
      threading.Thread(target=self._listen, name='requests', daemon=True).start()
      limit = float(self._limits.heartbeat)
      self._heartbeats = Heartbeats(self._client, f'{ROOT}/beat', self.index, limit)

  def silent(self) -> list[int]:
    """The processes that have not answered for config.limits.heartbeat seconds."""
    if self._heartbeats is None or self._leaving.locked():
      return []
    return [index for index in self._heartbeats.silent() if index != self.index]

  def share(self, make: Callable[[], Any]) -> Any:
    """On every process, what `make` returns on process 0, as JSON. All processes call it alike."""
    if self._client is None:
      return make()
    key = f'{ROOT}/share/{next(self._numbers)}'
    if self.index == 0:
      self._client.key_value_set(key, json.dumps(make()))
    try:
      text = self._client.blocking_key_value_get(key, _ms(self._limits.barrier))
    except RuntimeError as error:
      raise Late(
        f'process 0 was silent for {self._limits.barrier:g} s (config.limits.barrier): '
        f'{first_line(error)}'
      ) from error
    return json.loads(text)

  def gather(self, value: Any, name: str = '', limit: float | None = None) -> list[Any]:
    """The `value` of each process, as JSON. All processes call it alike.

    Args:
      limit: seconds after which a missing process counts as None; without it, a process missing
        after config.limits.barrier is an error.

    Raises:
      Late: a process is missing, and no limit is given.
    """
    if self._client is None:
      return [value]
    name = name or f'gather/{next(self._numbers)}'
    self._client.key_value_set(f'{ROOT}/{name}/{self.index}', json.dumps(value))
    try:
      self._wait(name, self._limits.barrier if limit is None else limit)
    except Late:
      if limit is None:
        raise
    texts = self._client.key_value_dir_get(f'{ROOT}/{name}/')
    answers = {int(key.rpartition('/')[2]): json.loads(text) for key, text in texts}
    return [answers.get(index) for index in range(self.count)]

  def post(self, kind: str, **words: Any) -> None:
    """Makes a request that every process receives; raises a RuntimeError if the service is gone."""
    request = {'kind': kind, 'by': self.index, **words}
    if self._client is None:
      self._answer(0, request)
      return
    while True:
      with self._news:
        number = self._received
      try:
        self._client.key_value_set(f'{ROOT}/request/{number}', json.dumps(request))
        return
      except RuntimeError as error:
        if 'ALREADY_EXISTS' not in str(error):
          raise
      with self._news:  # another process was first: receive its request, then try again
        self._news.wait_for(lambda n=number: self._received > n, timeout=GRACE)

  def leave(self, code: int, together: bool = False) -> NoReturn:
    """Ends this process at once, from any thread; the coordinator last: without it others abort.

    Args:
      together: all processes call this, and each waits for the others.
    """
    if not self._leaving.acquire(blocking=False):
      threading.Event().wait()  # another thread ends the process
    for call in self.at_exit:
      call(code)
    if self._client is not None:
      try:
        if together:
          self._client.shutdown()  # waits for them
        elif self.index == 0:
          time.sleep(GRACE)
      except RuntimeError as error:
        print_error(first_line(error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

  def _listen(self) -> None:
    for number in itertools.count():
      text = None
      while text is None:
        try:
          text = self._client.blocking_key_value_get(f'{ROOT}/request/{number}', HOUR_MS)
        except RuntimeError as error:
          if 'DEADLINE_EXCEEDED' not in str(error):
            return  # the service is gone, and JAX ends a process without it
      with self._news:
        self._received = number + 1
        self._news.notify_all()
      self._answer(number, json.loads(text))

  def _answer(self, number: int, request: dict[str, Any]) -> None:
    self.on[request['kind']](request, functools.partial(self.gather, name=f'request/{number}'))

  def _fault_elsewhere(self, request: dict[str, Any], gather: Gather) -> None:
    if request['by'] != self.index:
      self._ended = True
      print_error(f'process {request["by"]} ended: {request["sentence"]}')
      self.leave(request['code'])

  def _wait(self, name: str, limit: float) -> None:
    try:
      self._client.wait_at_barrier(f'{ROOT}/{name}', _ms(limit))
    except RuntimeError as error:
      missing = str(error).partition('timed out task names:\n')[2].split('\n')[0]
      raise Late(
        f'waited {limit:g} s for process {missing} ({name}; config.limits.barrier)'
        if missing
        else f'waiting for the others failed: {first_line(error)}'
      ) from error


class Late(RunFault):
  """A process did not answer in time."""


def start(limits: Limits) -> Processes:
  """Joins the processes of the run; call it before JAX initializes its devices.

  If not all have joined within config.limits.start, this process ends with exit code 1.

  Raises:
    UserError: the variables of `places.find` are not right, or the address is not free.
  """
  found = places.find(os.environ, _ms(limits.start) // 1000)
  if found is None:
    return Processes(limits)
  address, count, index, detection = found
  # JAX's own preemption notice would take SIGTERM from us, and does not interrupt a compilation.
  jax.config.update('jax_enable_preemption_service', False)

  def give_up() -> None:  # before JAX aborts
    print_error(
      f'process {index} of {count} did not meet the others at {address} within '
      f'{limits.start:g} s (config.limits.start)'
    )
    os._exit(1)

  timer = threading.Timer(_ms(limits.start) / 1000, give_up)
  timer.daemon = True
  timer.start()
  bind = places.bind_address(os.environ, address)
  try:
    if index == 0:
      places.check_free(bind)
    jax.distributed.initialize(
      address,
      count,
      index,
      cluster_detection_method=detection,
      coordinator_bind_address=bind,
      initialization_timeout=_ms(limits.start) // 1000 + 60,
      heartbeat_timeout_seconds=SLACK * limits.heartbeat,
      shutdown_timeout_seconds=_ms(limits.barrier) // 1000,
    )
  except (OSError, RuntimeError) as error:
    raise UserError(
      f'process {index} of {count} cannot join the others at {address}: {first_line(error)}; give '
      'JAX_COORDINATOR_ADDRESS a port of that host that is free'
    ) from None
  finally:
    timer.cancel()
  return Processes(limits, distributed.global_state.client, index, count)


def _ms(seconds: float) -> int:
  """Milliseconds of a limit; 0 is no limit: a month, as JAX needs a number."""
  return int(1000 * (seconds or 30 * 24 * 3600))
