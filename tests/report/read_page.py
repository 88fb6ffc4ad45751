"""A page as its reader sees it."""

import re
from html.parser import HTMLParser

from vit_jax.report.page import write_page

VOID = {'meta', 'img', 'br', 'link', 'input'}


class Page(HTMLParser):
  """Every tag with its attributes, and all text; checks that tags close in order."""

  def __init__(self, text: str):
    super().__init__()
    self.tags: list[tuple[str, dict[str, str]]] = []
    self.text, self._open = '', []
    self.feed(text)
    assert not self._open

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, {name: value or '' for name, value in attrs}))
    if tag not in VOID:
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append((tag, {name: value or '' for name, value in attrs}))

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    self.text += data

  def of(self, tag: str) -> list[dict[str, str]]:
    return [attrs for name, attrs in self.tags if name == tag]


def page(*runs) -> Page:
  path = write_page(runs)
  assert path == runs[0] / 'report.html'
  return Page(path.read_text())


def table(read: str, caption: str) -> list[list[str]]:
  """The cells of the first table after a headline, line by line."""
  body = read[read.index(caption) :].split('</table>')[0]
  return [re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', line) for line in body.split('<tr')[1:]]
