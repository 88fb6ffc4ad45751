"""Weights from the hub: a stand-in for it, on loopback."""

import hashlib
import http.server
import sys
import threading

import pytest

from tests.weights.made_up import TINY
from tests.weights.made_up_folder import hf_folder, same
from vit_jax import models, weights
from vit_jax.errors import UserError
from vit_jax.train.trainer import Trainer
from vit_jax.transfer import defaults

pytestmark = pytest.mark.usefixtures('no_downloads')
COMMIT = 'c' * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """A stand-in for the hub, of folder tmp_path/hub; `hub.asked` are its requests for contents.

  Files in `hub.wrong` are sent with a byte changed, half of those in `hub.broken` the first time,
  and those in `hub.refused` not at all.
  """
  pytest.importorskip('huggingface_hub')
  root = tmp_path / 'hub'

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_HEAD(self):
      self.answer()

    def do_GET(self):
      self.answer(body=True)

    def answer(self, body=False):
      path, name = root / self.path[1:].partition('?')[0], self.path.rpartition('/')[2]
      if name in server.refused or not path.is_file():
        self.send_response(403 if name in server.refused else 404)
        if name not in server.refused:
          self.send_header('X-Error-Code', 'EntryNotFound')
        self.send_header('Content-Length', '0')
        self.end_headers()
        return
      content = path.read_bytes()
      begin = int((self.headers.get('Range') or 'bytes=0-').removeprefix('bytes=').split('-')[0])
      self.send_response(206 if begin else 200)
      self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
      self.send_header('X-Repo-Commit', COMMIT)
      self.send_header('Content-Length', str(len(content) - begin))
      if begin:
        self.send_header('Content-Range', f'bytes {begin}-{len(content) - 1}/{len(content)}')
      self.end_headers()
      if not body:
        return
      server.asked.append((name, begin))
      if name in server.wrong:
        content = content[:-1] + bytes([content[-1] ^ 1])
      if name in server.broken:
        server.broken.remove(name)
        self.wfile.write(content[begin : len(content) // 2])
        self.close_connection = True
        return
      self.wfile.write(content[begin:])

    def log_message(self, *args):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    server.asked, server.wrong, server.broken, server.refused = [], set(), set(), set()
    threading.Thread(target=server.serve_forever).start()
    monkeypatch.setenv('HF_ENDPOINT', f'http://127.0.0.1:{server.server_port}')
    yield server
    server.shutdown()


def published_at(tmp_path, revision='main'):
  folder = tmp_path / 'hub' / 'org' / 'name' / 'resolve' / revision
  return hf_folder(folder, 'hf', models.build('Ti/8', 3, **TINY))


@pytest.mark.parametrize('revision', ['main', 'v2'])
def test_a_repository(revision, hub, tmp_path, caplog):
  variables = published_at(tmp_path, revision)
  source = 'hf://org/name' + ('' if revision == 'main' else f'@{revision}')
  opened = weights.open(source)
  assert same(opened.variables, variables) and source in opened.line
  count = [name for name, _ in hub.asked].count('model.safetensors')
  assert same(weights.open(source).variables, variables)
  assert count == [name for name, _ in hub.asked].count('model.safetensors') == 1  # then the cache
  with pytest.raises(UserError, match='hf://org/other has no config.json'):
    weights.open('hf://org/other')


def test_a_repository_is_fine_tuned(hub, tiny_folder, tmp_path):
  published_at(tmp_path)
  found = defaults.look(str(tiny_folder), tmp_path)
  x, line = defaults.recipe('hf://org/name', found, data_dir=tmp_path)
  assert x.init_from == 'hf://org/name' and f'{found.count} training images' in line
  _, said, _ = Trainer(x, tmp_path).begin()
  assert 'hf://org/name (Hugging Face ViT): 20 leaves matched' in said
  assert [name for name, _ in hub.asked].count('model.safetensors') == 1  # then the cache


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, tmp_path, monkeypatch):
  variables = published_at(tmp_path)
  monkeypatch.setattr('huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE', 1024)
  hub.broken.add('model.safetensors')
  try:
    opened = weights.open('hf://org/name')
  except UserError as error:
    assert 'hf://org/name/model.safetensors cannot be fetched' in str(error)
    opened = weights.open('hf://org/name')
  assert same(opened.variables, variables)
  first, second = [begin for name, begin in hub.asked if name == 'model.safetensors']
  assert first == 0 and second > 0


def test_a_file_that_is_not_what_the_hub_says_is_not_kept(hub, tmp_path):
  variables = published_at(tmp_path)
  hub.wrong.add('model.safetensors')
  for _ in range(2):
    with pytest.raises(UserError, match='is not what the hub says: its digest is'):
      weights.open('hf://org/name')
  hub.wrong.clear()
  assert same(weights.open('hf://org/name').variables, variables)


def test_a_hub_that_does_not_answer(hub, tmp_path):
  published_at(tmp_path)
  hub.refused.add('config.json')
  with pytest.raises(UserError, match='hf://org/name/config.json cannot be fetched'):
    weights.open('hf://org/name')


def test_without_its_package_a_sentence_names_the_extra(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(UserError, match=r"huggingface_hub: pip install 'vit-jax\[remote\]'"):
    weights.open('hf://org/name')
