"""Starts processes of `vit_jax` by forking: what they import is imported once.

Reads one JSON object a line: {"argv": [...], "env": {...}, "devices": 1, "log": file,
"places": file, "ids": file, and maybe "hang": step, "full": bytes, "errors": file, "cwd": folder,
"whole": true, "version": text, "clock": [step, seconds], "silent": seconds, "meanwhile": [step,
argv]}. Prints {"pid": ...} when a process has started and {"pid": ..., "code": ..., "peak": bytes}
when it has ended. The faults that come from within are planted here, around the product and not in
it; and what takes seconds of every start but is tested elsewhere is left out, unless "whole" is
set: measuring the peak rate and drawing the report.
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
import traceback

import jax

import vit_jax
from vit_jax import commands
from vit_jax.data import loader
from vit_jax.data.loader import Loader
from vit_jax.parallel import device, processes
from vit_jax.parallel.watchdog import Watchdog
from vit_jax.report import page
from vit_jax.run import lock


def announce_places(path: str) -> None:
  """Appends 'PHASE STEP' whenever the main thread turns to a phase, and 'start' at the start."""

  def say(phase: str, step: int) -> None:
    with open(path, 'a') as file:
      file.write(f'{phase} {step}\n')

  turn, start = Watchdog._turn, processes.start

  def announced_turn(self, phases):
    turn(self, phases)
    say(phases[-1][0], self.step)

  def announced_start(limits):
    say('start', 0)
    return start(limits)

  Watchdog._turn, processes.start = announced_turn, announced_start


def at_step(step: int, call) -> None:
  """Calls it once, when the main thread turns to the phase of a step that is not before `step`."""
  turn, done = Watchdog._turn, []

  def watched_turn(self, phases):
    turn(self, phases)
    if phases[-1][0] == 'step' and self.step >= step and not done:
      done.append(True)
      call()

  Watchdog._turn = watched_turn


def set_the_clock(step: int, seconds: float) -> None:
  """The clock of this process is set by so many seconds; before it starts, or at a step."""
  clock, ahead = time.time, []
  time.time = lambda: clock() + sum(ahead)
  if step:
    at_step(step, lambda: ahead.append(seconds))
  else:
    ahead.append(seconds)


def hang_the_loader(at: int) -> None:
  """A training batch that never comes."""
  batch = Loader.batch

  def hung(self, step: int):
    while self.train and step == at:
      time.sleep(1)
    return batch(self, step)

  Loader.batch = hung


def tell_ids(path: str) -> None:
  """Writes the examples of each training batch that the loop takes: step, this process's ids."""
  prefetch = loader.prefetch

  def told(source, start, end, put):
    for step, batch in enumerate(prefetch(source, start, end, put), start):
      if source.train:
        shards = sorted(batch['index'].addressable_shards, key=lambda s: s.index[0].start or 0)
        ids = [int(i) for shard in shards for i in shard.data]
        with open(path, 'a') as file:
          file.write(json.dumps([step, shards[0].index[0].start or 0, ids]) + '\n')
      yield batch

  loader.prefetch = told


def run(order: dict) -> int:
  os.environ.update(order['env'])
  os.chdir(order.get('cwd', '.'))
  jax.config.update('jax_num_cpu_devices', order['devices'])
  if 'JAX_PLATFORMS' in order['env']:  # JAX is imported already
    jax.config.update('jax_platforms', order['env']['JAX_PLATFORMS'])
  log = os.open(order['log'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(log, 1)
  os.dup2(os.open(order['errors'], os.O_WRONLY | os.O_CREAT) if 'errors' in order else log, 2)
  device.measured_matmul_rate = lambda dtype: 1e12
  if 'whole' not in order:
    page.write_page = lambda runs, **flags: 'left out'
  announce_places(order['places'])
  tell_ids(order['ids'])
  if 'hang' in order:
    hang_the_loader(order['hang'])
  if 'version' in order:
    vit_jax.__version__ = order['version']
  if 'silent' in order:  # seconds that an owner of a lock elsewhere may be
    lock.SILENT = order['silent']
  if 'clock' in order:
    set_the_clock(*order['clock'])
  if 'meanwhile' in order:
    step, argv = order['meanwhile']
    at_step(step, lambda: subprocess.run(argv, check=True))
  if 'full' in order:  # the disk is full for this process: no file may be larger
    resource.setrlimit(resource.RLIMIT_FSIZE, (order['full'], order['full']))
  try:
    return commands.main(order['argv'])
  except SystemExit as ended:  # of --help
    return ended.code or 0
  except BaseException:
    traceback.print_exc()
    return 1


def main() -> None:
  for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
      code = run(order)
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(code)
    print(json.dumps({'pid': pid}), flush=True)
    threading.Thread(target=reap, args=(pid,), daemon=True).start()


def reap(pid: int) -> None:
  _, status, used = os.wait4(pid, 0)
  ended = {'pid': pid, 'code': os.waitstatus_to_exitcode(status), 'peak': used.ru_maxrss * 1024}
  os.write(1, (json.dumps(ended) + '\n').encode())


if __name__ == '__main__':
  main()
