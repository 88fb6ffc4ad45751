"""Shell scripts from the templates beside this file. Filter what a user gave with `quote`."""

import shlex
from pathlib import Path

import jinja2

from vit_jax.errors import PREEMPTED, USERS_FAULT

ENVIRONMENT = jinja2.Environment(  # nosec B701
  loader=jinja2.FileSystemLoader(Path(__file__).with_name('templates')),
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
  keep_trailing_newline=True,
)
ENVIRONMENT.filters['quote'] = shlex.quote
ENVIRONMENT.globals |= {'PREEMPTED': PREEMPTED, 'USERS_FAULT': USERS_FAULT}


def render(template: str, **values: object) -> str:
  return ENVIRONMENT.get_template(template).render(values)
