"""Job scripts and the variables of processes: what is put into them, and what they say."""

import re
import socket
from collections.abc import Iterator

from tests.storm.command_lines import TEXTS, flags_of
from tests.storm.verdicts import Case, Outcome
from tests.storm.world import World

# Each would add something to a script that is not the value of a flag.
INJECTIONS = ('a\n#SBATCH --wrap=id', 'a --wrap=id', 'a\nkubectl', '$(id)', '`id`', "a'b", 'a;id',
              'a\u2028#SBATCH --wrap=id', 'a\r#SBATCH --wrap=id')  # fmt: skip
TARGETS = 'slurm', 'jobset', 'skypilot', 'tpu_vm'
# Flags that are a command of the user's, or no text of a script.
FREE = ('--help', '--print', '--submit', '--target', '--config', '--setup')
PLATFORMS = ('cuda', 'rocm', 'tpu', 'nonsense', 'cpu,nonsense', 'cuda,cpu', ' ', ',', 'CPU\n')
NUMBERS = ('', '²', '-1', '0', 'abc', '1e9', '2147483648', '9' * 30, '1.5', ' 2', '2\n')
ADDRESSES = ('x', ':', 'x:y', '127.0.0.1', '127.0.0.1:99999', '127.0.0.1:-1', '0.0.0.0:1234',
             '[::]:1234', 'no_such_host.invalid:1234', 'a b:1', '\n', 'x' * 300)  # fmt: skip


def _clean(outcome: Outcome) -> str:
  """Complains of a script with a directive or command of its own."""
  for line in outcome.out.splitlines():
    if re.match(r'\s*(#SBATCH.* --wrap|#SBATCH --wrap|kubectl$|id$)', line):
      return f'the script has the line {line!r}'
  return ''


def scripts(world: World) -> Iterator[Case]:
  """Every flag of `launch` for every target."""
  flags = [action.option_strings[-1] for action in flags_of('launch') if action.nargs != 0]
  for target in TARGETS:
    for flag in flags:
      for text in (*INJECTIONS, *TEXTS) if flag not in FREE else ():
        argv = ['launch', '--config=deit:B/16', f'--target={target}', f'{flag}={text}']
        yield Case(f'launch on {target} with {flag}', argv, 'either', _clean)


def environments(world: World) -> Iterator[Case]:
  """Variables of JAX that are wrong, and a port that another program has."""
  run = world.folder / 'made' / 'variables'
  train = ['train', f'--config={world.recipe}', f'--workdir={run}', '--config.limits.start=3']
  predict = ['predict', f'--weights={world.vit}', f'--input={world.image}']
  for text in PLATFORMS:
    for argv in (train, predict, ['bench', '--model=LeNet-5', '--batch=1', '--seconds=.1']):
      yield Case(f'{argv[0]} on {text!r}', argv, env={'JAX_PLATFORMS': text})
  held = socket.socket()
  held.bind(('127.0.0.1', 0))
  held.listen()
  free = f'127.0.0.1:{held.getsockname()[1]}'

  def of(address: str, count: str, index: str) -> dict[str, str]:
    return {
      'JAX_COORDINATOR_ADDRESS': address,
      'JAX_NUM_PROCESSES': count,
      'JAX_PROCESS_ID': index,
    }

  def listens(held=held) -> None:  # keeps it open
    assert held.fileno() >= 0

  yield Case('a port in use', train, 'sentence', begin=listens, env=of(free, '2', '0'))
  for text in ADDRESSES:
    for index in '01':
      yield Case(f'coordinator {text[:20]!r}', train, 'sentence', env=of(text, '2', index))
  for text in NUMBERS:
    yield Case(f'{text[:20]!r} processes', train, 'sentence', env=of('127.0.0.1:0', text, '0'))
    yield Case(f'process {text[:20]!r}', train, 'sentence', env=of('127.0.0.1:0', '2', text))
