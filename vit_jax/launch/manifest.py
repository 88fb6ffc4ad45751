"""YAML for a reader: keys in our order, lists indented, scripts as blocks."""

from typing import Any

import yaml


def dump(document: dict[str, Any], heading: str) -> str:
  """One document below comment lines that say what it is for."""
  comment = ''.join(f'# {line}\n' for line in heading.splitlines())
  return comment + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=95)


class _Dumper(yaml.SafeDumper):
  def increase_indent(self, flow: bool = False, indentless: bool = False):
    return super().increase_indent(flow, False)  # a list below its key, as yamllint wants it


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
  style = '|' if '\n' in text else None
  return dumper.represent_scalar('tag:yaml.org,2002:str', text, style=style)


_Dumper.add_representer(str, _text)
