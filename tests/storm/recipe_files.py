"""Recipe files that are wrong in every way a program can be."""

from tests.storm.verdicts import Case
from tests.storm.world import World

GOOD = 'from ml_collections import ConfigDict\n\n\ndef get_config(arg=""):\n  return '
KEYS = "steps=1, model=dict(name='LeNet-5')"

# name -> (its text, what is expected of resolving it).
FILES = {
  'good': (f'{GOOD}ConfigDict(dict({KEYS}))\n', 'right'),
  'empty': ('', 'sentence'),
  'words': ('once upon a time\n', 'sentence'),
  'json': ('{"steps": 1, "model": {"name": "LeNet-5"}}\n', 'sentence'),
  'binary': ('\x00\x01\x02', 'sentence'),
  'indent': ('def get_config():\nreturn 1\n', 'sentence'),
  'deep': ('x = ' + '(' * 300 + ')' * 300 + '\n', 'sentence'),
  'raises': ('raise RuntimeError("no luck")\n', 'sentence'),
  'asserts': ('def get_config():\n  assert False\n', 'sentence'),
  'keyerror': ('def get_config():\n  return {}["x"]\n', 'sentence'),
  'exits': ('import sys\nsys.exit(3)\n', 'sentence'),
  'exits_late': ('def get_config():\n  raise SystemExit\n', 'sentence'),
  'recursion': ('def get_config():\n  return get_config()\n', 'sentence'),
  'lines': ('def get_config():\n  raise ValueError("one\\ntwo\\nthree")\n', 'sentence'),
  'silent': ('def get_config():\n  raise ValueError\n', 'sentence'),
  'imports': ('import neighbor\n', 'sentence'),
  'relative': ('from . import neighbor\n', 'sentence'),
  'missing': ('import no_such_package_anywhere\n', 'sentence'),
  'constant': ('get_config = 3\n', 'sentence'),
  'two': ('def get_config(a, b):\n  return {}\n', 'sentence'),
  'keyword': ('def get_config(*, a):\n  return {}\n', 'sentence'),
  'class': ('class get_config:\n  pass\n', 'sentence'),
  'generator': ('def get_config():\n  yield 1\n', 'sentence'),
  **{
    f'returns_{name}': (f'def get_config():\n  return {value}\n', 'sentence')
    for name, value in {
      'none': 'None', 'int': '3', 'text': '"steps"', 'list': '[("steps", 1)]',
      'dict': '{"steps": 1}',
      'class': 'dict', 'module': '__builtins__', 'bytes': 'b"x"', 'set': '{1}',
    }.items()
  },
  **{
    f'holds_{name}': (f'{GOOD}ConfigDict(dict({KEYS}, {text}))\n', 'sentence')
    for name, text in {
      'set': 'batch_size={1, 2}', 'bytes': 'name=b"x"', 'complex': 'optim=dict(lr=1j)',
      'inf': 'optim=dict(lr=float("inf"))', 'nan': 'optim=dict(lr=float("nan"))',
      'huge': 'batch_size=10**20', 'longer': 'batch_size=10**5000',
      'float': 'optim=dict(lr=10**400)',
      'function': 'name=print', 'class': 'model=dict', 'list': 'model=[1]',
      'object': 'name=object()',
      'unknown': 'stpes=1', 'self': 'data=dict(data=dict(data=dict()))', 'none': 'batch_size=None',
      'dotted': '**{"optim.lr": 1.0}', 'number': '**{"data": {1: 2}}', 'evals': 'evals={1: dict()}',
      'eval_name': 'evals={"a/b": dict()}', 'eval_dots': 'evals={"..": dict()}',
      'eval_long': 'evals={"x" * 300: dict()}', 'eval_line': 'evals={"a\\nb": dict()}',
      'eval_empty': 'evals={"": dict()}', 'eval_set': 'evals={"a"}',
      'eval_none': 'evals={"a": None}',
      'eval_reserved': 'evals={"train": dict()}', 'phases': 'then=[1]',
      'phase': 'then=dict(stpes=1)',
      'tuple': 'data=dict(image_size=(1, 2, 3))', 'tuple_set': 'data=dict(image_size={1, 2})',
      'tuple_inf': 'data=dict(mean=(float("inf"),) * 3)', 'tuple_bytes': 'data=dict(mean=b"abc")',
      'epochs': 'epochs=float("inf")', 'negative': 'batch_size=-1', 'bool': 'batch_size=True',
    }.items()
  },
}  # fmt: skip
SWEEPS = {
  'none': 'None', 'int': '3', 'text': '"abc"', 'empty': '[]', 'ints': '[1]', 'keys': '[{1: 2}]',
  'values': '[{"optim.lr": {1}}]', 'unknown': '[{"no.such": 1}]', 'nested': '[[{}]]',
  'raises': '1 / 0', 'name': '[{"optim.lr": "a/b"}]', 'dict': '{"optim.lr": 1}',
}  # fmt: skip
COMPARISONS = {
  'none': 'None', 'int': '3', 'text': '"abc"', 'empty': '[]', 'ints': '[1]', 'nameless': '[{}]',
  'name': '[dict(name=3)]', 'twice': '[dict(name="a"), dict(name="a")]', 'key': '[dict(nmae="a")]',
  'choices': '[dict(name="a", choices=3)]', 'choice': '[dict(name="a", choices=[3])]',
  'teacher': '[dict(name="a", teacher="b")]', 'seeds': '[dict(name="a", seeds=-1)]',
  'method': '[dict(name="a", method="x")]', 'path': '[dict(name="../../a")]', 'raises': '1 / 0',
  'year': '[dict(name="a", year="1990")]', 'dict': '{"name": "a"}', 'path_empty': '[dict(name="")]',
}  # fmt: skip


def cases(world: World) -> list[Case]:
  folder = world.folder / 'recipes'
  folder.mkdir(exist_ok=True)
  (folder / 'neighbor.py').write_text('x = 1\n')
  (folder / 'folder.py').mkdir(exist_ok=True)
  (folder / 'good').write_text(FILES['good'][0])
  (folder / 'good.txt').write_text(FILES['good'][0])
  (folder / 'latin.py').write_bytes(b'x = "\xff"\n')
  found = []

  def add(name: str, text: str, expects: str, *argv: str) -> None:
    path = folder / f'{name}.py'
    path.write_text(text)
    found.append(Case(f'recipe {name}', [*argv, f'--config={path}'], expects))

  for name, (text, expects) in FILES.items():
    add(name, text, expects, 'launch', '--print')
  for name, value in SWEEPS.items():
    text = f'{FILES["good"][0]}\n\ndef get_sweep():\n  return {value}\n'
    add(f'sweep_{name}', text, 'sentence', 'sweep', '--print')
  for name, value in COMPARISONS.items():
    text = f'{FILES["good"][0]}\n\ndef get_comparison():\n  return {value}\n'
    made = f'--workdir={world.folder / "made" / name}'
    add(f'compare_{name}', text, 'sentence', 'compare', made)
  for name in ('folder.py', 'good', 'good.txt', 'latin.py', 'nowhere.py', '', 'good.py:a:b', ':'):
    found.append(
      Case(f'recipe {name}', ['launch', '--print', f'--config={folder / name}'], 'either')
    )
  for spec in (
    'deit:',
    'deit:nonsense',
    'no_such',
    '../configs/deit',
    'configs/',
    '.',
    '/',
    ':B/16',
  ):
    found.append(Case(f'recipe {spec}', ['launch', '--print', f'--config={spec}'], 'either'))
  return found
