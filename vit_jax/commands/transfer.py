"""`vit_jax transfer`."""

import argparse
import itertools
import json

from tqdm import tqdm

from vit_jax.commands import flags
from vit_jax.errors import UserError, nearest, writing
from vit_jax.evaluate.backbone import Pulse
from vit_jax.parallel.device import keep_cpu_memory
from vit_jax.paths import local
from vit_jax.report import transfer as report
from vit_jax.tables import as_text, write_csv
from vit_jax.transfer import finetune, suite
from vit_jax.transfer.candidates import candidates
from vit_jax.transfer.compare import Interrupted
from vit_jax.transfer.tasks import open_task


def main(argv: list[str]) -> int:
  parser = flags.parser('transfer')
  flags.add_weights(
    parser, nargs='+', more='; or several, as in DINOv2-S/14@98=FILE RUN bag_of_words'
  )
  add = parser.add_argument
  add('--suite', help='offline, paper or vtab (docs/transfer.md)')
  add(
    '--data',
    nargs='+',
    default=(),
    metavar='NAME',
    help='data sets with splits train and test, in place of a suite',
  )
  add(
    '--methods',
    nargs='+',
    default=('few_shot', 'knn', 'linear'),
    help=f"of {', '.join(suite.METHODS)} (default: the first three); classify judges the model's "
    'own head, on ImageNet',
  )
  add('--image_size', type=flags.at_least(1), help='a side in pixels')
  add('--batch', type=flags.at_least(1), default=64, help='images at a time on a device')
  add('--csv', type=flags.output(), help='also write the table here')
  add('--json', type=flags.output(), help='also write the table here, with what was judged')
  add('--page', type=flags.output('.html'), help='also write a page with plots here (.html)')
  add(
    '--recipe',
    default='finetune',
    metavar='NAME|FILE',
    help='of fine-tuning (default: %(default)s); --config.KEY=VALUE changes it',
  )
  add(
    '--seeds',
    type=flags.at_least(0),
    nargs='+',
    default=[0],
    help='of fine-tuning, one training each',
  )
  add(
    '--workdir',
    type=local,
    default=local('runs/transfer'),
    help='of fine-tuning: the folder of run folders (default: %(default)s)',
  )
  flags.add_data_dir(parser)
  args, updates = flags.parse(parser, argv)
  tasks = suite.tasks(args.suite, args.data)
  for method in args.methods:
    if method not in suite.METHODS:
      raise UserError(f'--methods: {method!r} is not one; {nearest(method, suite.METHODS)}')
  tune = finetune.METHOD in args.methods
  if updates and not tune:
    raise UserError(f'--config.{next(iter(updates))} is for --methods {finetune.METHOD}; add it')
  if tune:  # training gains from it; features of many examples would fill the memory twice
    keep_cpu_memory()
  data_dir, pulse = flags.data_dir(args), Bar()
  judged = candidates(
    args.weights,
    model=args.model,
    options=flags.model_options(args),
    checkpoint=args.checkpoint,
    data_dir=data_dir,
    image_size=args.image_size,
    batch=args.batch,
  )
  print('\n'.join(candidate.line for candidate in judged), flush=True)
  if tune:
    finetune.check(args.recipe, updates, judged, tasks)
  opened = [open_task(task, data_dir) for task in tasks]  # what is missing is said before an hour
  rows: list[suite.TransferRow] = []
  for candidate in judged:
    for task, data in zip(tasks, opened, strict=True):
      found = suite.judge_task(candidate, task, data, args.methods, data_dir / 'features', pulse)
      if tune:
        found = itertools.chain(
          found,
          finetune.fine_tune(
            candidate,
            task,
            data,
            args.recipe,
            updates,
            args.seeds,
            args.workdir,
            data_dir,
            args.batch,
            pulse,
          ),
        )
      try:
        for row in found:
          print(
            f'{row.model}, {row.task}: {row.method}, {row.setting}: {row.top1:.2f} % +- '
            f'{row.spread:.2f}',
            flush=True,
          )
          rows.append(row)
      except Interrupted as stopped:
        return stopped.code
      _write(args, rows)  # so that little is lost
  if not rows:
    raise UserError(
      f'--methods {" ".join(args.methods)}: none of them can be judged on '
      f'{", ".join(task.name for task in tasks)}; try linear'
    )
  print(as_text(suite.TransferRow._fields, rows))
  means = suite.group_means(tasks, rows)
  if means:
    print(as_text(suite.GroupMean._fields, means))
  if args.page:
    report.write_page(rows, means, [candidate.line for candidate in judged], args.page)
  return 0


def _write(args: argparse.Namespace, rows: list[suite.TransferRow]) -> None:
  values = [row._asdict() for row in rows]
  if args.csv:
    write_csv(args.csv, values)
  if args.json:
    found = {'weights': args.weights, 'rows': values}
    with writing(args.json):
      args.json.write_text(json.dumps(found, indent=2) + '\n')


class Bar(Pulse):
  """A progress bar of each pass over a split, on a terminal."""

  _bar: tqdm | None = None

  def begin(self, title: str, total: int) -> None:
    if self._bar is not None:
      self._bar.close()
    self._bar = tqdm(total=total, desc=title, unit='image', disable=None)

  def beat(self, count: int) -> None:
    if self._bar is not None:
      self._bar.update(min(count, self._bar.total - self._bar.n))
