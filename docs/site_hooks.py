"""What mkdocs needs to build the site from files that GitHub shows as they are.

Pages outside docs/ (README.md and others) and notebooks become pages of the site, and any other
file of the repository that a page links to is copied as text. So a link is written once, as GitHub
wants it.
"""

import json
import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
# Pages outside docs/, and their names on the site.
PAGES = {
  'README.md': 'index.md',
  'launch/README.md': 'launch.md',
  'CONTRIBUTING.md': 'contributing.md',
  'CHANGELOG.md': 'changelog.md',
}
LINK = re.compile(r'(\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(\))')
ROW = re.compile(r'(?<=[ |])`[^`\n]*\\\|[^`\n]*`')
FLAG = re.compile(r'(?<![\w-])(--?[a-z]\w*)')
CODE = re.compile(r'(^```.*?^```|`[^`\n]*`)', re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
  """Adds the pages outside docs/, and the files that pages link to."""
  for path, name in PAGES.items():
    files.append(File.generated(config, name, content=(ROOT / path).read_text()))
  for path in sorted(ROOT.glob('docs/notebooks/*.ipynb')):
    name = _on_site(path.relative_to(ROOT).as_posix())
    files.append(File.generated(config, name, content=_notebook(path)))
  for file in list(files.documentation_pages()):
    for target in _targets(file):
      if target not in PAGES and not target.startswith('docs/') and (ROOT / target).is_file():
        name = _on_site(target)
        if name not in files.src_uris:
          files.append(File.generated(config, name, content=(ROOT / target).read_bytes()))
  return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
  """Points links at where their files are on the site."""
  here = PurePosixPath(page.file.src_uri).parent

  def moved(match: re.Match[str]) -> str:
    before, link, anchor, after = match.groups()
    name = os.path.relpath(_on_site(_target(page.file, link)), here)
    return f'{before}{name}{anchor or ""}{after}'

  # GitHub wants | escaped in code in tables, and shows it as |; Markdown here takes it as it is.
  markdown = ROW.sub(lambda row: row[0].replace('\\|', '|'), markdown)
  parts = CODE.split(markdown)
  return ''.join(part if i % 2 else LINK.sub(moved, part) for i, part in enumerate(parts))


def on_page_content(html: str, **_) -> str:
  """Keeps the dashes of a flag with its name, between which browsers would break lines."""

  def flags(code: re.Match[str]) -> str:
    return FLAG.sub(r'<span class="flag">\1</span>', code[0])

  return re.sub(r'(?<!<pre>)<code>[^<]*</code>', flags, html)


def _targets(file: File) -> list[str]:
  text = CODE.sub('', file.content_string)
  return [_target(file, match[2]) for match in LINK.finditer(text)]


def _target(file: File, link: str) -> str:
  """The path in the repository that a link of a page means."""
  source = {name: path for path, name in PAGES.items()}.get(file.src_uri, f'docs/{file.src_uri}')
  return os.path.normpath((PurePosixPath(source).parent / link).as_posix())


def _on_site(target: str) -> str:
  """Where a file of the repository is on the site, below its folder of pages."""
  if target in PAGES:
    return PAGES[target]
  if target.startswith('docs/notebooks/'):
    return target.removeprefix('docs/').replace('.ipynb', '.md')
  if target.startswith('docs/'):
    return target.removeprefix('docs/')
  return f'files/{target}.txt'  # which browsers show rather than download


def _notebook(path: Path) -> str:
  """A notebook as Markdown: its text, its code, and the text and pictures that the code gave."""
  parts = []
  for cell in json.loads(path.read_text())['cells']:
    source = ''.join(cell['source'])
    parts.append(source if cell['cell_type'] == 'markdown' else f'```python\n{source}\n```')
    said = ''
    for output in cell.get('outputs', []):
      data = output.get('data', {})
      said += ''.join(output.get('text', data.get('text/plain', '')))
      if 'image/png' in data:
        parts.append(f'![output](data:image/png;base64,{"".join(data["image/png"]).strip()})')
        said = ''
    if said.strip():
      parts.append(f'```text\n{said.rstrip()}\n```')
  name = path.relative_to(ROOT / 'docs' / 'notebooks').as_posix()
  parts.append(f'The notebook: <a href="{name}" download>{name}</a>')
  return '\n\n'.join(parts)
