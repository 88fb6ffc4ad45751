"""Programs that stand in for those of a cluster."""

from pathlib import Path


def fake(folder: Path, name: str, script: str) -> None:
  folder.mkdir(exist_ok=True)
  (folder / name).write_text(f'#!/bin/bash\n{script}\n')
  (folder / name).chmod(0o755)
