"""Chromium without a window: opens pages from a server of this host, and says what went wrong."""

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

CHROMIUM = next(
  filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), ''
)

# Opens one page after the other in a frame, as narrow as a phone, and leaves its findings as text.
OPENER = """<!doctype html><html><head><link rel="icon" href="data:,"></head><body><pre></pre>
<script>
const pages = PAGES, found = [];
const open = page => new Promise(done => {
  const frame = document.createElement('iframe');
  frame.width = WIDTH; frame.height = 800;
  frame.onload = () => setTimeout(() => {
    const inside = frame.contentDocument;
    const asked = frame.contentWindow.performance.getEntriesByType('resource').map(e => e.name);
    found.push({page, title: inside.title, width: inside.documentElement.scrollWidth,
      elsewhere: asked.filter(name => /^http/.test(name) && !name.startsWith(location.origin)),
      broken: [...inside.images].filter(image => image.complete && !image.naturalWidth).length});
    frame.remove(); done();
  }, 100);
  frame.src = page; document.body.append(frame);
});
(async () => {
  for (const page of pages) await open(page);
  document.querySelector('pre').textContent = JSON.stringify(found);
})();
</script></body></html>"""


class Seen(NamedTuple):
  """What a browser met."""

  pages: list[dict]  # of each: page, title, width, elsewhere (addresses), broken (images)
  console: list[str]
  failed: list[str]  # requests that the server refused


@contextmanager
def serve(folder: Path, opener: str) -> Iterator[tuple[str, list[str]]]:
  """(address of a server on this host, requests that failed); `opener` is at /opener."""
  failed: list[str] = []

  class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
      super().__init__(*args, directory=str(folder))

    def do_GET(self):
      if self.path != '/opener':
        return super().do_GET()
      self.send_response(200)
      self.send_header('Content-Type', 'text/html; charset=utf-8')
      self.end_headers()
      self.wfile.write(opener.encode())

    def log_request(self, code='-', size='-'):
      if int(code) >= 400:
        failed.append(f'{code} {self.path}')

    def log_message(self, format, *args):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
      yield f'http://127.0.0.1:{server.server_port}', failed
    finally:
      server.shutdown()


def visit(folder: Path, pages: list[str], profile: Path, width: int = 390) -> Seen:
  """Opens pages of a folder; no other host can be reached."""
  opener = OPENER.replace('PAGES', json.dumps(pages)).replace('WIDTH', str(width))
  with serve(folder, opener) as (address, failed):
    command = [
      CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
      '--disable-background-networking', '--disable-component-update', '--no-first-run',
      f'--user-data-dir={profile}', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
      '--enable-logging=stderr', '--v=0', '--virtual-time-budget=600000', '--dump-dom',
      f'{address}/opener',
    ]  # fmt: skip
    process = subprocess.Popen(
      command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
      out, errors = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
      os.killpg(process.pid, signal.SIGKILL)
      raise
  console = [line for line in errors.splitlines() if 'CONSOLE' in line]
  found = re.search(r'<pre>(.*?)</pre>', out, re.DOTALL)
  assert found and found[1], f'{out[-2000:]}\n{errors[-2000:]}'
  return Seen(json.loads(found[1].replace('&amp;', '&')), console, list(failed))
