"""What a run folder says of the recipe it was made with."""

from vit_jax import config
from vit_jax.run import Run, differences


def test_a_run_folder_resolves_to_the_same_experiment(tmp_path):
  x = config.recipe('earth_climate')
  (tmp_path / 'config.json').write_text(x.to_json())
  assert Run(tmp_path).experiment.to_json() == x.to_json()
  assert differences(x, Run(tmp_path).experiment) == []


def test_differences_name_what_decides_the_result_only():
  x = config.resolve({'epochs': 1, 'optim': {'lr': 0.1}})
  y = config.resolve({'epochs': 1, 'optim': {'lr': 0.2}, 'log': {'every': {'steps': 7}}})
  assert differences(x, y) == ['config.optim.lr was 0.1 and is now 0.2']
