"""Secrets in addresses are not shown, and not stored: passwords, and all that follows a `?`."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = '***'
_PASSWORD = re.compile(r'([A-Za-z][\w+.-]*:/{1,2})[^/@\s\'"]+@(?=[^\s/@])')
_QUERY = re.compile(r'([A-Za-z][\w+.-]*:/{1,2}[^\s?#\'"]+\?)[^\s#\'"]+')


def redacted(value: Any) -> Any:
  """Text, or each text of nested mappings and lists, without the secrets of its addresses.

  `https://user:password@host/file?token=secret` becomes `https://***@host/file?***`.
  """
  if isinstance(value, str):
    return _QUERY.sub(rf'\1{HIDDEN}', _PASSWORD.sub(rf'\1{HIDDEN}@', value))
  if isinstance(value, Mapping):
    return {key: redacted(item) for key, item in value.items()}
  return [redacted(item) for item in value] if isinstance(value, list | tuple) else value


def one_line(text: object) -> str:
  """Text in one line, without secrets and without characters that control a terminal."""
  shown = redacted(str(text))
  return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
