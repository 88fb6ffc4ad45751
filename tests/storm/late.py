"""Mistakes that were seen, and those that a long run would find late: they are found before."""

from tests.storm.verdicts import Case
from tests.storm.world import World

# What is wrong -> flags of `train`.
WRONG = {
  'a split that is not there': ['--config.evals.other.split=tset'],
  'a split to predict': ['--config.evals.other.kind=predict', '--config.evals.other.split=tset'],
  'a slice without examples': ['--config.evals.other.split=test[:0]'],
  'a metric that is not measured': ['--config.checkpoint.best=test/top9'],
  'a metric of another eval': ['--config.checkpoint.best=other/top1'],
  'a metric of predictions': [
    '--config.evals.other.kind=predict', '--config.checkpoint.best=other/top1',
  ],
  'a name that no file can have': ['--config.evals.a/b.split=test'],
  'train stored as test': ['--config.evals.test.kind=predict', '--config.evals.test.split=train'],
  'data that are not there': [
    '--config.evals.other.kind=knn', '--config.evals.other.data=folder:/nowhere',
  ],
  'a data set of an unknown name': [
    '--config.evals.other.kind=knn', '--config.evals.other.data=nothing',
  ],
  'weights that are not there': ['--config.init_from=/nowhere'],
  'weights of another model': ['--config.init_from=VIT'],
  'a teacher that is not there': [
    '--config.loss.distill.kind=hard', '--config.loss.distill.teacher.name=LeNet-5',
    '--config.loss.distill.teacher_weights=/nowhere',
  ],
  'a cadence that is never': ['--config.evals.test.every.steps=-1'],
  'a length of nothing': ['--config.steps=0'],
  'a warm-up of another kind': ['--config.optim.warmup.steps=1', '--config.optim.warmup.epochs=1'],
}  # fmt: skip


def seen(world: World) -> list[Case]:
  """Command lines that once were accepted, hung or gave a traceback."""
  launch = ['launch', '--print', f'--config={world.recipe}']
  evaluate = ['evaluate', f'--workdir={world.copy}']
  argvs = [
    [*launch, '--config.epochs=1e999'], [*launch, '--config.steps=3000000000'],
    [*launch, '--config.batch_size=10**20'], [*launch, '--config.optim.lr=inf'],
    [*launch, '--config.evals.a.b.c=1'], [*evaluate, '--checkpoint=²'],
    ['report', f'{world.run}/config.json'], ['convert', f'--from={world.recipe}', '--to=a.npz'],
  ]  # fmt: skip
  return [Case(f'seen: {argv[-1]}', argv, 'sentence') for argv in argvs]


def cases(world: World) -> list[Case]:
  """Each must be refused before the first row of metrics is written."""
  found = seen(world)
  for number, (what, flags) in enumerate(WRONG.items()):
    run = world.folder / 'made' / f'late-{number}'
    flags = [flag.replace('VIT', str(world.vit)) for flag in flags]
    argv = ['train', f'--config={world.recipe}', f'--workdir={run}', *flags]
    found.append(Case(what, argv, 'sentence', absent=run / 'metrics.jsonl'))
  return found
