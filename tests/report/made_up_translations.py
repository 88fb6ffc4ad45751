"""What training leaves in the folder of a translation run, made up."""

import json
from pathlib import Path
from typing import Any

SOURCES = ['one two', 'a b c d e f g h', 'a <b>bold</b> & "quoted" source of words', 'three']
REFERENCES = ['eins zwei', 'A B C D E F G H', 'ein <i>Satz</i> & noch einer', 'drei']
RIGHT = [True, True, False, True]
TRANSLATIONS = [REFERENCES[0], REFERENCES[1], 'ein <i>Satz</i> & kein anderer', REFERENCES[3]]


def alignment(links: bool = True) -> dict[str, Any]:
  """Two words that look at each other crosswise; only one of them is a gold link."""
  return {
    'source': ['one', 'two'],
    'target': ['zwei', '<eins>'],
    'weights': [[0.1, 0.9], [0.8, 0.2]],
    'links': [[1, 0], [1, 1]] if links else None,
  }


def rows(steps: int = 10) -> list[dict[str, float]]:
  """Rows of metrics.jsonl: training every step, an evaluation at steps 5 and 10."""
  out: list[dict[str, float]] = []
  for s in range(1, steps + 1):
    trained = {'loss': 3 / s, 'accuracy': s / 20, 'lr': 1e-3 / s, 'tokens_per_second': 900 + s}
    out.append({'step': s, **{f'train/{key}': value for key, value in trained.items()}})
    if s % 5 == 0:
      out.append({'step': s, 'test/bleu': 4.0 * s, 'test/loss': 2 / s, 'test/exact': s / 20})
  return out


def write(path: Path, *, seed: int = 3, bleu: float = 41.25, aligned=(), ended=True) -> Path:
  """The folder of a run that has ended, or, with ended=False, has not translated anything yet."""
  path.mkdir(parents=True)
  config = {
    'name': 'a_translation',
    'seed': seed,
    'model': {'name': 'RNN-GRU', 'width': 8, 'alignment': 'dot' if aligned else 'none'},
    'checkpoint': {'best': ''},
    'data': {'kind': 'pairs', 'name': 'pairs:somewhere'},
    'evals': {'test': {'kind': 'translate'}},
    'loss': {'label_smoothing': 0.1},
  }
  (path / 'config.json').write_text(json.dumps(config))
  (path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows()))
  if not ended:
    return path
  metrics = {'bleu': bleu, 'chrf': 61.75, 'exact': 0.75, 'loss': 0.875}
  if aligned:
    metrics['aer'] = 0.375
  summary = {'test': metrics, 'seconds': {'train': 20.0}, 'parameters': 12345, 'device': '1 x cpu'}
  (path / 'summary.json').write_text(json.dumps(summary))
  (path / 'translations').mkdir()
  found = {
    'sources': SOURCES,
    'references': REFERENCES,
    'translations': TRANSLATIONS,
    'signature': 'nrefs:1|of|a|test',
    'aligned': list(aligned),
  }
  (path / 'translations' / 'test.json').write_text(json.dumps(found))
  return path
