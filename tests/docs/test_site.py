"""The site builds without a warning, and a browser shows every page of it without a complaint."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import CHROMIUM, visit

ROOT = Path(__file__).parent.parent.parent
PHONE = 390  # pixels

pytestmark = pytest.mark.skipif(
  not find_spec('material'), reason="mkdocs-material is not installed: pip install '.[docs]'"
)
needs_browser = pytest.mark.skipif(not CHROMIUM, reason='there is no chromium here')


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
  place = tmp_path_factory.mktemp('site')
  command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(place)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return place


def pages(site: Path) -> list[str]:
  return sorted(path.relative_to(site).as_posix() for path in site.rglob('*.html'))


def test_readme_and_docs_are_all_there(site):
  found = set(pages(site))
  docs = {f'{path.stem}.html' for path in (ROOT / 'docs').glob('*.md')}
  books = {f'notebooks/{path.stem}.html' for path in (ROOT / 'docs').glob('notebooks/*.ipynb')}
  assert {'index.html', 'launch.html', 'changelog.html'} | docs | books <= found


def test_links_to_other_files_have_their_text(site):
  text = (site / 'files' / 'launch' / 'Dockerfile.txt').read_text()
  assert text == (ROOT / 'launch' / 'Dockerfile').read_text()


@needs_browser
def test_a_browser_shows_every_page(site, tmp_path):
  names = pages(site)
  seen = visit(site, names, tmp_path, PHONE)
  assert [page['page'] for page in seen.pages] == names
  assert not seen.console and not seen.failed
  assert [page['page'] for page in seen.pages if page['broken'] or page['elsewhere']] == []
  assert [page for page in seen.pages if page['width'] > PHONE] == []  # nothing sticks out
  assert all(page['title'] for page in seen.pages)


@needs_browser
def test_the_browser_would_see_a_fault(tmp_path):
  (tmp_path / 'bad.html').write_text(
    '<title>bad</title><img src="missing.png"><script src="https://example.com/a.js"></script>'
    '<div style="width: 900px">wide</div><script>console.warn("careful")</script>'
  )
  seen = visit(tmp_path, ['bad.html'], tmp_path / 'profile', PHONE)
  (page,) = seen.pages
  assert page['broken'] == 1 and page['width'] > PHONE
  assert page['elsewhere'] == ['https://example.com/a.js'] and seen.failed == ['404 /missing.png']
  assert len(seen.console) == 1 and 'careful' in seen.console[0]
