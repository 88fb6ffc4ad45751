"""Starts gcp-storage-emulator at a port of 127.0.0.1, with a bucket `bucket1`.

It reads uploads by Python's parser of mails, which takes the last byte of those that end in a
carriage return for a part of the line break. Here it is replaced.
"""

import json
import re
import sys

from gcp_storage_emulator import server
from gcp_storage_emulator.__main__ import main

_read_data = server._read_data


def read_data(handler, query):
  kind = handler.headers.get('Content-Type') or ''
  if not kind.startswith('multipart/related'):
    return _read_data(handler, query)
  boundary = re.search(r'boundary="?([^";]+)', kind)[1].encode()
  raw = server._read_raw_data(handler)
  _, first, rest = raw.split(b'--' + boundary, 2)
  head, _, content = rest.rpartition(b'\n--' + boundary + b'--')[0].partition(b'\n\n')
  found = re.search(rb'(?i)content-type: *([^;\s]+)', head)
  return {
    'meta': json.loads(first.partition(b'\n\n')[2]),
    'content': content,
    'content-type': found[1].decode() if found else 'application/octet-stream',
  }


server._read_data = read_data
sys.exit(
  main(
    [
      'start',
      '--host=127.0.0.1',
      f'--port={sys.argv[1]}',
      '--in-memory',
      '--default-bucket=bucket1',
    ]
  )
)
