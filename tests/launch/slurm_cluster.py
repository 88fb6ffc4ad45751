"""A Slurm cluster of two nodes on this host, in a folder, for as long as a test wants it."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

PROGRAMS = ('slurmctld', 'slurmd', 'sbatch', 'scontrol', 'scancel', 'squeue', 'sinfo', 'srun')

# No munge and no cgroups: nothing here needs a service of the system. A job that is queued again
# waits until its old credential has expired, two minutes where nothing is said.
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/linear
SchedulerParameters=sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=10
CompleteWait=0
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
  """Why Slurm cannot run here; empty where it can."""
  os.environ['PATH'] += os.pathsep + '/usr/sbin'  # where Debian keeps the daemons
  missing = [name for name in PROGRAMS if shutil.which(name) is None]
  return f'needs {", ".join(missing)}: apt-get install slurm-wlm' if missing else ''


class Cluster:
  """A controller and two nodes. Raises RuntimeError, with the logs, where they do not start."""

  def __init__(self, folder: Path):
    self._folder = folder
    self.conf = folder / 'slurm.conf'
    self.environment = {**os.environ, 'SLURM_CONF': str(self.conf)}
    self._daemons: list[subprocess.Popen] = []

  def __enter__(self) -> Self:
    (self._folder / 'state').mkdir(parents=True)
    for node in ('n1', 'n2'):
      (self._folder / node).mkdir()
    self.conf.write_text(
      CONF.format(
        host=socket.gethostname(), user=getpass.getuser(), folder=self._folder, ports=_free_ports(3)
      )
    )
    try:
      self._start('slurmctld', '-D', '-c')
      for node in ('n1', 'n2'):
        self._start('slurmd', '-D', '-N', node)
      self._wait_until_idle()
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *error: object) -> None:
    if all(daemon.poll() is None for daemon in self._daemons):
      self.run('scancel', '--signal=KILL', '--full', f'--user={getpass.getuser()}')
    for daemon in reversed(self._daemons):
      daemon.terminate()
      try:
        daemon.wait(20)
      except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()

  def run(self, *argv: str) -> str:
    """What a Slurm command prints."""
    done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=60)
    if done.returncode:
      raise RuntimeError(f'{" ".join(argv)}: {done.stderr}')
    return done.stdout

  def state(self, job: str) -> str:
    """Such as RUNNING; empty once the controller has forgotten the job."""
    return self.run('squeue', '--noheader', '--states=all', '--format=%T', f'--jobs={job}').strip()

  def processes(self) -> list[str]:
    """Commands that still run with this cluster in their environment."""
    found = []
    for path in Path('/proc').glob('[0-9]*/environ'):
      try:
        if f'SLURM_CONF={self.conf}'.encode() in path.read_bytes().split(b'\0'):
          found.append((path.parent / 'cmdline').read_text().replace('\0', ' '))
      except OSError:
        pass  # it has ended, or is not ours
    return found

  def logs(self) -> str:
    return '\n'.join(
      f'{path.name}:\n{path.read_text()[-3000:]}' for path in sorted(self._folder.glob('*.log'))
    )

  def _start(self, *argv: str) -> None:
    out = open(self._folder / f'{argv[0]}-{len(self._daemons)}.out', 'w')
    self._daemons.append(
      subprocess.Popen(
        argv, env=self.environment, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
      )
    )
    out.close()

  def _wait_until_idle(self, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
      if any(daemon.poll() is not None for daemon in self._daemons):
        break
      try:
        states = self.run('sinfo', '--noheader', '--Node', '--format=%T').split()
      except RuntimeError:
        states = []
      if states == ['idle', 'idle']:
        return
      time.sleep(0.2)
    raise RuntimeError('Slurm does not start here:\n' + self.logs())


def _free_ports(count: int) -> list[int]:
  listeners = [socket.socket() for _ in range(count)]
  for listener in listeners:
    listener.bind(('127.0.0.1', 0))
  ports = [listener.getsockname()[1] for listener in listeners]
  for listener in listeners:
    listener.close()
  return ports
