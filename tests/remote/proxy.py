"""A proxy on loopback before an emulated store, which injects faults into requests.

A fault waits until a request comes that it is for, and then happens so many times:
  'refuse'   the server answers 503
  'forbid'   the server answers 403
  'cut'      the connection ends after half of the request's body
  'lose'     the request is carried out, but its answer is not sent
  'short'    the connection ends after half of the answer
  'slow'     the answer takes `seconds` longer
  'lag'      a listing answers as the one before it did
"""

import re
import socket
import threading
import time
from dataclasses import dataclass

_LENGTH = re.compile(rb'(?i)\r\ncontent-length: *(\d+)')
_CHUNKED = re.compile(rb'(?i)\r\ntransfer-encoding: *chunked')


@dataclass
class Fault:
  kind: str
  method: str = ''  # such as 'PUT'; '': any
  path: str = ''  # a part of it
  times: int = 1
  seconds: float = 0.5


class Proxy:
  """Attributes:
  port: to connect to.
  happened: the faults that came about, by kind and request.
  count: requests so far.
  """

  def __init__(self, upstream: int):
    self._upstream, self._faults, self._lock = upstream, [], threading.Lock()
    self.happened: list[tuple[str, str]] = []
    self.count = 0
    self._listings: dict[str, bytes] = {}
    self._server = socket.create_server(('127.0.0.1', 0))
    self.port = self._server.getsockname()[1]
    threading.Thread(target=self._accept, daemon=True).start()

  def inject(self, *faults: Fault) -> None:
    with self._lock:
      self._faults += faults

  def calm(self) -> None:
    """Forgets the faults, and what happened."""
    with self._lock:
      self._faults, self.happened = [], []

  def close(self) -> None:
    self._server.close()

  def _accept(self) -> None:
    while True:
      try:
        client, _ = self._server.accept()
      except OSError:
        return
      threading.Thread(target=self._serve, args=(client,), daemon=True).start()

  def _serve(self, client: socket.socket) -> None:
    """Requests of one connection, one after the other."""
    with client:
      reader = client.makefile('rb')
      try:
        while request := _message(reader, client):
          if not self._answer(client, request):
            return
      except OSError:
        return

  def _pick(self, method: str, path: str) -> Fault | None:
    with self._lock:
      self.count += 1
      for fault in self._faults:
        if fault.times and fault.method in ('', method) and fault.path in path:
          fault.times -= 1
          self.happened.append((fault.kind, f'{method} {path}'))
          return fault
    return None

  def _answer(self, client: socket.socket, request: bytes) -> bool:
    """Whether the connection goes on."""
    method, path, _ = (word.decode() for word in request.split(b'\r\n', 1)[0].split(b' ', 2))
    fault = self._pick(method, path)
    kind = fault.kind if fault else ''
    if status := {'refuse': b'503 Slow Down', 'forbid': b'403 Forbidden'}.get(kind):
      client.sendall(b'HTTP/1.1 ' + status + b'\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
      return False
    with socket.create_connection(('127.0.0.1', self._upstream)) as server:
      request = re.sub(rb'(?i)\r\nconnection: [^\r]*', b'', request, count=1)
      request = request.replace(b'\r\n', b'\r\nConnection: close\r\n', 1)
      if kind == 'cut':
        server.sendall(request[: (request.index(b'\r\n\r\n') + len(request)) // 2])
        return False
      server.sendall(request)
      answer = b''.join(iter(lambda: server.recv(1 << 16), b''))
    if kind == 'lose':
      return False
    if kind == 'slow' and fault:
      time.sleep(fault.seconds)
    if method == 'GET' and ('list-type' in path or path.partition('?')[0].endswith('/o')):
      before = self._listings.get(path.partition('?')[2], answer)
      self._listings[path.partition('?')[2]] = answer
      answer = before if kind == 'lag' else answer
    client.sendall(answer[: len(answer) // 2] if kind == 'short' else answer)
    return False


def _message(reader, client: socket.socket) -> bytes:
  """A whole request; b'' at the end of the connection."""
  head = b''
  while not head.endswith(b'\r\n\r\n'):
    line = reader.readline()
    if not line:
      return b''
    head += line
  if b'100-continue' in head.lower():
    client.sendall(b'HTTP/1.1 100 Continue\r\n\r\n')
    head = re.sub(rb'(?i)expect: 100-continue\r\n', b'', head)
  if _CHUNKED.search(head):
    body = b''
    while True:
      size = reader.readline()
      body += size
      chunk = reader.read(int(size.split(b';')[0], 16) + 2)
      body += chunk
      if len(chunk) == 2:
        return head + body
  length = _LENGTH.search(head)
  return head + reader.read(int(length[1]) if length else 0)
