"""The scripts of Slurm and of a TPU VM, run among programs that stand in for a cluster."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.launch.stand_ins import fake

ROOT = Path(__file__).parents[2]

GCLOUD = """
cd "$(dirname "$0")"
echo "$*" >> called
case "$*" in
  *describe*) # says what a line of `outages` says, as long as there are any
    if [ -s outages ]; then head -n 1 outages >&2; sed -i 1d outages; exit 1; fi
    cat state 2>/dev/null || { echo "ERROR: NOT_FOUND: Resource was not found" >&2; exit 1; } ;;
  *create*)
    [ ! -f state ] || { echo "ERROR: ALREADY_EXISTS" >&2; exit 1; }
    if [ -s born ]; then head -n 1 born > state; sed -i 1d born; else echo ACTIVE > state; fi ;;
  *delete*) rm -f state ;;
  *worker=all*) # each start of the training does what the next line of `starts` says
    read -r code after < starts; sed -i 1d starts
    echo "$code" > code; echo "$after" > state ;;
  *worker=0*) code=$(cat code); [ "$code" != lost ] && echo "$code" ;;
esac
"""


def run_tpu_vm(folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
  """Runs the example of a TPU VM against the stand-in, whose `files` say what happens."""
  fake(folder, 'gcloud', GCLOUD)
  fake(folder, 'sleep', 'echo "$1" >> "$(dirname "$0")/slept"')
  for name, text in files.items():
    (folder / name).write_text(text)
  script = ROOT / 'launch' / 'examples' / 'tpu_vm.sh'
  return subprocess.run(
    ['bash', str(script)],
    timeout=60,
    capture_output=True,
    text=True,
    env={**os.environ, 'PATH': f'{folder}:{os.environ["PATH"]}'},
  )


@pytest.mark.parametrize(
  'starts, expected, slices',
  [
    (['0 ACTIVE'], 0, 1),
    (['75 ACTIVE', '0 ACTIVE'], 0, 1),
    (['lost SUSPENDED', '0 ACTIVE'], 0, 2),
    (['75 SUSPENDED', 'lost SUSPENDED', '75 SUSPENDED', 'lost SUSPENDED', '0 ACTIVE'], 0, 5),
    (['2 ACTIVE'], 2, 1),
    (['1 ACTIVE', '134 ACTIVE', '0 ACTIVE'], 0, 1),
    (['1 ACTIVE', 'lost ACTIVE', '1 ACTIVE', '1 ACTIVE'], 1, 1),
  ],
)
def test_the_tpu_vm_script_asks_for_its_slice_again(starts, expected, slices, tmp_path):
  """Three faults are forgiven, being preempted always; at the end the slice is given back."""
  done = run_tpu_vm(tmp_path, starts='\n'.join(starts) + '\n')
  assert done.returncode == expected, done.stderr
  called = (tmp_path / 'called').read_text()
  assert called.count(' create ') == called.count(' delete ') == slices
  assert (tmp_path / 'starts').read_text().strip() == ''


def test_what_gcloud_cannot_say_is_no_missing_slice(tmp_path):
  """It is told, and asked again: to create the slice that is there would end the script."""
  done = run_tpu_vm(
    tmp_path,
    starts='0 ACTIVE\n',
    state='ACTIVE\n',
    outages='UNAVAILABLE: try later\nPERMISSION_DENIED\n',
  )
  assert done.returncode == 0, done.stderr
  assert 'UNAVAILABLE: try later\nPERMISSION_DENIED' in done.stderr
  assert ' create ' not in (tmp_path / 'called').read_text()
  assert (tmp_path / 'slept').read_text() == '30\n30\n'


@pytest.mark.parametrize(
  'born, expected', [(['FAILED'] * 3, 0), (['FAILED'] * 4, 1), (['SUSPENDED'] * 6, 0)]
)
def test_a_slice_that_is_born_dead_is_waited_for(born, expected, tmp_path):
  """Between two slices is a pause; one that failed is a fault, one that was taken away is none."""
  done = run_tpu_vm(tmp_path, starts='0 ACTIVE\n', born='\n'.join(born) + '\n')
  assert done.returncode == expected, done.stderr
  called = (tmp_path / 'called').read_text()
  slices = len(born) + (expected == 0)
  assert called.count(' create ') == called.count(' delete ') == slices
  assert (tmp_path / 'slept').read_text() == '30\n' * (slices - 1)


DOCKER = """
cd "$(dirname "$0")"
echo "$*" >> called
case "$1" in
  inspect) [ -f running ] ;;
  run) touch running ;;
  wait) echo 75 ;;
  rm) rm running ;;
esac
"""


def test_a_host_joins_the_container_that_runs(tmp_path):
  """After a lost connection the training is not started a second time."""
  text = (ROOT / 'launch' / 'examples' / 'tpu_vm.sh').read_text()
  remote = text[text.index('remote=') : text.index('\nstate()')].replace('/tmp/', f'{tmp_path}/')
  fake(tmp_path, 'docker', DOCKER)
  fake(tmp_path, 'sudo', '[ "$1" = mount ] || exec "$@"')
  fake(tmp_path, 'hostname', 'echo 10.1.2.3 172.17.0.1')
  for running in (False, True):
    (tmp_path / 'called').write_text('')
    if running:
      (tmp_path / 'running').touch()
    subprocess.run(
      ['bash', '-c', f'{remote}\nbash -c "$remote"'],
      check=True,
      timeout=60,
      env={**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
    )
    called = (tmp_path / 'called').read_text()
    assert ('run --detach' in called) != running
    assert ('JAX_COORDINATOR_BIND_ADDRESS=10.1.2.3:8482' in called) != running
    assert (tmp_path / 'vit_jax.code').read_text() == '75\n'


SRUN = """
case "$*" in *--relative=1*) # once on each of the other nodes
  [[ "$*" == *"--nodes=1 --ntasks=1 --ntasks-per-node=1"* ]] || exit 1
  SLURMD_NODENAME=n8 exec bash -c "${!#}" ;;
esac
for ((i = 0; i < SLURM_NTASKS; i++)); do
  SLURM_PROCID=$i SLURM_LOCALID=$((i % EACH)) bash -c "${!#}" || code=$?
done
exit "${code:-0}"
"""
SCONTROL = """
case "$1 $2" in
  "show hostnames") echo n7; echo n8 ;;
  "show job") echo "   JobState=${STATE-RUNNING} Reason=None" ;;
  "show node") echo "NodeName=$3 Arch=x86_64"; echo "   NodeAddr=$3.cluster NodeHostName=$3" ;;
  requeue*) echo "$2" >> "$(dirname "$0")/requeued" ;;
esac
"""


def run_sbatch(script: str, folder: Path, each: int, code: int) -> tuple[int, list[dict[str, str]]]:
  """Runs a batch script of two nodes among stand-ins; (its exit code, JAX_* of each process)."""
  for name, text in {
    'srun': SRUN,
    'scontrol': SCONTROL,
    'getent': '[ -z "${ADDRESS-some}" ] || echo "${ADDRESS-10.0.0.2} STREAM"',
    'hostname': 'echo 10.9.9.9',
    'ip': 'echo "2: $6    inet 10.5.5.5/24 brd 10.5.5.255 scope"',
    'python': f'env | grep ^JAX_ > "$(dirname "$0")/process-$JAX_PROCESS_ID"; exit {code}',
  }.items():
    fake(folder, name, text)
  done = subprocess.run(
    ['bash', '-c', script],
    timeout=60,
    capture_output=True,
    text=True,
    env={
      **{k: v for k, v in os.environ.items() if not k.startswith('JAX_')},
      'PATH': f'{folder}:{os.environ["PATH"]}',
      'SLURM_JOB_ID': '4100',
      'SLURM_NTASKS': str(2 * each),
      'EACH': str(each),
      'SLURM_JOB_NODELIST': 'n[7-8]',
      'SLURMD_NODENAME': 'n7',
    },
  )
  words = [
    dict(line.split('=', 1) for line in path.read_text().splitlines())
    for path in sorted(folder.glob('process-*'))
  ]
  return done.returncode, words


@pytest.mark.parametrize(
  'each, devices',
  [
    (1, ['0,1,2,3,4,5,6,7'] * 2),
    (2, ['0,1,2,3', '4,5,6,7'] * 2),
    (4, ['0,1', '2,3', '4,5', '6,7'] * 2),
    (8, list('01234567') * 2),
  ],
)
def test_processes_of_a_slurm_job(each, devices, launch, tmp_path):
  code, text = launch('--target=slurm', '--nodes=2', '--gpus_per_node=8', f'--processes={each}')
  assert code == 0
  code, words = run_sbatch(text, tmp_path, each, 0)
  words.sort(key=lambda word: int(word['JAX_PROCESS_ID']))
  assert code == 0 and not (tmp_path / 'requeued').exists()
  assert [word['JAX_LOCAL_DEVICE_IDS'] for word in words] == devices
  assert [word['JAX_PROCESS_ID'] for word in words] == [str(i) for i in range(2 * each)]
  assert {word['JAX_NUM_PROCESSES'] for word in words} == {str(2 * each)}
  assert {word['JAX_COORDINATOR_ADDRESS'] for word in words} == {'10.0.0.2:61444'}
  assert {word['JAX_COORDINATOR_BIND_ADDRESS'] for word in words} == {'10.0.0.2:61444'}


def test_each_node_runs_the_setup(launch, tmp_path):
  """Before the training, to which the first node's hands on what it exports."""
  setup = f'export JAX_TOLD="it\'s"; echo $SLURMD_NODENAME >> {tmp_path}/up; rm -f {tmp_path}/p*-*'
  for nodes, expected in (('2', ['n7', 'n8']), ('1', ['n7'])):
    (tmp_path / 'up').unlink(missing_ok=True)
    _, text = launch('--target=slurm', f'--nodes={nodes}', f'--setup={setup}')
    code, words = run_sbatch(text, tmp_path, 1, 0)
    assert code == 0 and [word['JAX_TOLD'] for word in words] == ["it's"] * 2
    assert (tmp_path / 'up').read_text().split() == expected


@pytest.mark.parametrize(
  'flags, address', [((), '127.0.1.1'), (('--interface=ib0',), '10.0.0.2'), ((), '')]
)
def test_the_coordinators_address_in_slurm(flags, address, launch, tmp_path, monkeypatch):
  """A host that knows itself as 127.0.1.1, an interface by name, and no address at all."""
  monkeypatch.setenv('ADDRESS', address)
  _, text = launch('--target=slurm', '--nodes=2', *flags)
  code, words = run_sbatch(text, tmp_path, 1, 0)
  found = {word['JAX_COORDINATOR_BIND_ADDRESS'] for word in words}
  if flags:
    assert found == {'10.5.5.5:61444'}
  elif address:
    assert found == {'10.9.9.9:61444'}
  else:
    assert code == 2 and not words


@pytest.mark.parametrize('code, again', [(0, 0), (2, 0), (75, 6), (1, 3), (137, 3)])
def test_what_is_queued_again(code, again, launch, tmp_path, monkeypatch):
  """Six starts with the same end: preempted always, a fault three times, else never."""
  _, text = launch('--target=slurm', '--nodes=2')
  monkeypatch.chdir(tmp_path)
  for _ in range(6):
    assert run_sbatch(text, tmp_path, 1, code)[0] == code
  requeued = tmp_path / 'requeued'
  assert (requeued.read_text() if requeued.exists() else '') == '4100\n' * again
  monkeypatch.setenv('STATE', 'CANCELLED')
  requeued.unlink(missing_ok=True)
  assert run_sbatch(text, tmp_path, 1, code)[0] == code
  assert not requeued.exists()
