"""Commands that change how long a run is: shorter than its warm-up, in other units, longer."""

import pytest

from vit_jax import commands, config
from vit_jax.config.recipes import from_flags
from vit_jax.errors import UserError
from vit_jax.run import Run


def resolved(*flags: str):
  return config.recipe('folder', from_flags(['--config.data.dir=d', *flags]))


def test_another_length_takes_the_place_of_the_recipes():
  assert resolved('--config.steps=10').length == config.Duration(steps=10)
  assert resolved('--config.epochs=3').length == config.Duration(epochs=3)
  assert resolved('--config.steps=0').length == config.Duration(epochs=100)
  changed = resolved('--config.optim.warmup.steps=7', '--config.evals.test.every.examples=9')
  assert changed.optim.warmup == config.Duration(steps=7)
  assert changed.evals['test'].every == config.Duration(examples=9)
  again = config.update(changed, {'examples': 500})
  assert again.length == config.Duration(examples=500) and again.optim == changed.optim


@pytest.mark.parametrize('key', ['', 'optim.warmup.'])
def test_two_lengths_of_one_command_are_refused(key):
  with pytest.raises(UserError, match='steps and epochs are both set'):
    resolved(f'--config.{key}steps=3', f'--config.{key}epochs=3')


def test_a_later_phase_has_its_own(tiny_recipe):
  then = {'name': 'second', 'epochs': 2.0}
  assert config.recipe(tiny_recipe, {'then': then}).phases[1].length == config.Duration(epochs=2)
  changed = config.recipe(tiny_recipe, {'then': then, 'then.steps': 3})
  assert changed.phases[1].length == config.Duration(steps=3)


def test_a_run_is_shortened_and_made_longer(lenet_recipe, tmp_path, capsys):
  warm = '--config.optim.warmup.steps=40'
  command = ['train', f'--config={lenet_recipe}', f'--workdir={tmp_path / "run"}', warm]
  command += ['--config.batch_size=16', '--config.eval_batch_size=16']
  assert commands.main([*command, '--config.steps=10']) == 0
  said = capsys.readouterr().out
  assert 'shortened, to fit into 10 steps: config.optim.warmup from 40 steps to 2' in said
  assert 'lengthened' not in said and Run(tmp_path / 'run').summary['steps'] == 10
  assert commands.main([*command, '--config.steps=15']) == 0
  said = capsys.readouterr().out
  assert (
    'lengthened from 10 to 15 steps: from step 10 the learning rate is that of a cosine' in said
  )
  run = Run(tmp_path / 'run')
  assert (run.summary['steps'], run.identity and run.identity.steps, run.last_step) == (15, 15, 15)
  assert commands.main([*command, '--config.steps=12']) == 2
  assert 'can only become longer' in capsys.readouterr().err
  assert Run(tmp_path / 'run').summary['steps'] == 15
  assert commands.main([*command, '--config.steps=15', '--config.optim.lr=1e-4']) == 2
