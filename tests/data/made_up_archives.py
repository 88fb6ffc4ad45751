"""One small data set in every form that people have: tables, parquet, WebDataset, archives."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
from made_up_folders import picture

SPLITS = {'train': 12, 'val': 6}
CLASSES = ('ant', 'bee', 'cat')


def examples():
  """(split, number, class, image) of a made-up data set; all images differ."""
  for split, count in SPLITS.items():
    for i in range(count):
      yield split, i, CLASSES[i % 3], picture(40 + 60 * (i % 3), i + 100 * (split == 'val'))


def add(archive, name, content):
  member = tarfile.TarInfo(name)
  member.size = len(content)
  archive.addfile(member, io.BytesIO(content))


def csv_table(folder):
  with open(folder / 'all.csv', 'w', newline='') as file:
    rows = csv.writer(file)
    rows.writerow(['File_Name', 'label', 'Split', 'patient'])
    for split, i, name, image in examples():
      (folder / f'{split}{i}.png').write_bytes(image)
      rows.writerow([f'{split}{i}.png', name, split.upper(), i // 2])
  return f'table:{folder}/all.csv'


def tsv_table(folder):
  csv_table(folder)
  text = (folder / 'all.csv').read_text().replace(',', '\t')
  (folder / 'all.tsv').write_text(text)
  return f'table:{folder}/all.tsv'


def jsonl_table(folder):
  csv_table(folder)
  with open(folder / 'all.csv', newline='') as file:
    lines = [json.dumps(row) for row in csv.DictReader(file)]
  (folder / 'all.jsonl').write_text('\n'.join(lines))
  return f'table:{folder}/all.jsonl'


def parquet_of_paths(folder):
  parquet = pytest.importorskip('pyarrow.parquet')
  import pyarrow

  rows = []
  for split, i, name, image in examples():
    (folder / f'{split}{i}.png').write_bytes(image)
    rows.append({'path': f'{split}{i}.png', 'label': name, 'split': split})
  parquet.write_table(pyarrow.Table.from_pylist(rows), folder / 'all.parquet')
  return f'table:{folder}/all.parquet'


def _hub_tables():
  """Split -> table, with the schema that the library `datasets` writes."""
  import pyarrow

  names = {'names': list(CLASSES), '_type': 'ClassLabel'}
  features = {'image': {'_type': 'Image'}, 'label': names}
  metadata = {'huggingface': json.dumps({'info': {'features': features}})}
  for split in SPLITS:
    rows = [
      {'image': {'bytes': image, 'path': None}, 'label': CLASSES.index(name)}
      for part, _, name, image in examples()
      if part == split
    ]
    yield split, pyarrow.Table.from_pylist(rows).replace_schema_metadata(metadata)


def huggingface_parquet(folder):
  parquet = pytest.importorskip('pyarrow.parquet')
  (folder / 'data').mkdir()
  for split, table in _hub_tables():
    name = {'val': 'validation'}.get(split, split)
    for part, start in enumerate(range(0, len(table), 6)):
      piece = table.slice(start, 6)
      parquet.write_table(
        piece, folder / f'data/{name}-{part:05}-of-00002.parquet', row_group_size=4
      )
  return f'huggingface:{folder}'


def huggingface_arrow(folder):
  pyarrow = pytest.importorskip('pyarrow')
  for split, table in _hub_tables():
    (folder / split).mkdir()
    with pyarrow.ipc.new_stream(folder / split / 'data-00000-of-00001.arrow', table.schema) as file:
      file.write_table(table, max_chunksize=5)
    (folder / split / 'dataset_info.json').write_text('{}')
  return f'huggingface:{folder}'


def webdataset(folder):
  for split, i, name, image in examples():
    with tarfile.open(folder / f'{split}-{i // 5:06}.tar', 'a') as archive:
      add(archive, f'{i:04}.png', image)
      add(archive, f'{i:04}.cls', name.encode())
      add(archive, f'{i:04}.json', json.dumps({'kind': name, 'size': 20}).encode())
  return f'webdataset:{folder}'


WNIDS = {'ant': 'n02219486', 'bee': 'n02206856', 'cat': 'n02123045'}


def ilsvrc(folder):
  """The structure of ImageNet's archives: a tar of tars, a flat tar, and the development kit."""
  scipy_io = pytest.importorskip('scipy.io')
  inner, val, truth = {}, [], []
  for split, i, name, image in examples():
    if split == 'train':
      inner.setdefault(WNIDS[name], []).append((f'{WNIDS[name]}_{i}.JPEG', image))
    else:
      val.append((f'ILSVRC2012_val_{i + 1:08}.JPEG', image))
      truth.append(CLASSES.index(name) + 1)
  with tarfile.open(folder / 'ILSVRC2012_img_train.tar', 'w') as outer:
    for wnid, images in inner.items():
      packed = io.BytesIO()
      with tarfile.open(fileobj=packed, mode='w') as archive:
        for name, image in images:
          add(archive, name, image)
      add(outer, f'{wnid}.tar', packed.getvalue())
  with tarfile.open(folder / 'ILSVRC2012_img_val.tar', 'w') as archive:
    for name, image in reversed(val):
      add(archive, name, image)
  meta = io.BytesIO()
  ids = [(k + 1, WNIDS[name]) for k, name in enumerate(CLASSES)]
  kinds = [('ILSVRC2012_ID', 'O'), ('WNID', 'O')]
  scipy_io.savemat(meta, {'synsets': np.array(ids, dtype=kinds)})
  with tarfile.open(folder / 'ILSVRC2012_devkit_t12.tar.gz', 'w:gz') as archive:
    add(archive, 'ILSVRC2012_devkit_t12/data/meta.mat', meta.getvalue())
    lines = '\n'.join(map(str, truth)).encode()
    add(archive, 'ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt', lines)
  return f'ilsvrc:{folder}'


KINDS = [
  csv_table, tsv_table, jsonl_table, parquet_of_paths, huggingface_parquet, huggingface_arrow,
  webdataset, ilsvrc,
]  # fmt: skip
