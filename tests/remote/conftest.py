"""Object stores on this host: emulators of GCS and S3, and a proxy that injects faults."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import fsspec
import pytest

from tests.remote.proxy import Proxy
from tests.remote.world import World

# gcsfs would otherwise ask each bucket, with credentials that are not here, what kind it is.
USUAL = {
  'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
  'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'x',
  'AWS_ACCESS_KEY_ID': 'x',
  'AWS_SECRET_ACCESS_KEY': 'y',
  'AWS_DEFAULT_REGION': 'us-east-1',
  'AWS_EC2_METADATA_DISABLED': 'true',
  'NO_GCE_CHECK': 'true',
}
ENDPOINTS = {
  'gs': ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'),
  's3': ('AWS_ENDPOINT_URL',),
}


def free_port() -> int:
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return free.getsockname()[1]


def _start(kind: str, port: int) -> subprocess.Popen:
  command = {
    'gs': [str(Path(__file__).with_name('gcs_emulator.py')), str(port)],
    's3': ['-c', f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"],
  }[kind]
  return subprocess.Popen(
    [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )


def _answers(port: int) -> bool:
  try:
    urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=5)
  except urllib.error.HTTPError:
    return True
  except OSError:
    return False
  return True


class Server:
  """An emulated store with a bucket `bucket1`, and a proxy before it.

  Attributes:
    env: the variables by which clients find it, through the proxy.
  """

  def __init__(self, kind: str):
    port = free_port()
    self.kind, self._process = kind, _start(kind, port)
    deadline = time.monotonic() + 60
    while not _answers(port):
      assert self._process.poll() is None and time.monotonic() < deadline, kind
      time.sleep(0.1)
    self.proxy = Proxy(port)
    self.env = {**USUAL, **dict.fromkeys(ENDPOINTS[kind], f'http://127.0.0.1:{self.proxy.port}')}
    if kind == 's3':
      request = urllib.request.Request(f'http://127.0.0.1:{port}/bucket1', method='PUT')
      urllib.request.urlopen(request, timeout=30)

  def close(self) -> None:
    self.proxy.close()
    self._process.terminate()
    self._process.wait(timeout=30)


@pytest.fixture(scope='session')
def servers():
  """Kind -> Server, each started when it is first asked for."""
  started: dict[str, Server] = {}

  def get(kind: str) -> Server:
    if kind not in started:
      started[kind] = Server(kind)
    return started[kind]

  yield get
  for server in started.values():
    server.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """An empty folder for local copies."""
  monkeypatch.setenv('VIT_JAX_CACHE_DIR', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


@pytest.fixture
def address(request, servers, monkeypatch, tmp_path):
  """A new folder in the store of the kind that the test is parametrized by."""
  kind, name = request.param, f'bucket1/{tmp_path.name}'
  if kind == 'file':
    return f'file://{tmp_path}/store/{name}'
  if kind in ENDPOINTS:
    for key, value in servers(kind).env.items():
      monkeypatch.setenv(key, value)
    fsspec.filesystem(kind).clear_instance_cache()
  return f'{kind}://{name}'


@pytest.fixture
def faults(request, servers):
  """The proxy of the store that `address` is in, without faults before and after."""
  proxy = servers(request.node.callspec.params['address']).proxy
  proxy.calm()
  yield proxy
  proxy.calm()


@pytest.fixture
def world(kind, servers, nursery, lenet_recipe, tmp_path, monkeypatch):
  """Of the kind of store that the test is parametrized by."""
  server = servers(kind)
  server.proxy.calm()
  for name, value in {**server.env, 'VIT_JAX_CACHE_DIR': str(tmp_path / 'reader')}.items():
    monkeypatch.setenv(name, value)
  yield World(server, nursery, lenet_recipe, tmp_path)
  server.proxy.calm()
