"""What a person sees while a run trains: compiling, speed, and no share of the peak above all."""

import io
import logging
import sys

import jax
import pytest

from vit_jax.parallel import chips, device
from vit_jax.train.recorder import Progress


class Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


def row(share: float) -> dict[str, float]:
  return {'train/loss': 1.0, 'train/images_per_second': 20.0, 'train/fraction_of_peak': share}


@pytest.fixture
def lines(caplog):
  caplog.set_level(logging.INFO, logger='vit_jax')
  return lambda: [record.getMessage() for record in caplog.records]


def test_the_bar_says_compiling_until_the_first_step(monkeypatch):
  screen = Terminal()
  monkeypatch.setattr(sys, 'stderr', screen)
  progress = Progress(0, 10, 'images')
  assert 'compiling' not in screen.getvalue()
  progress.compiling()
  assert 'compiling' in screen.getvalue()
  screen.truncate(0)
  progress.advance()
  progress.show(1, row(0.5))
  progress.close()
  assert 'compiling' not in screen.getvalue() and '50% of peak' in screen.getvalue()


def test_without_a_bar_it_is_said_once(lines):
  progress = Progress(0, 10, 'images')
  progress.compiling()
  progress.compiling()
  assert lines() == ['compiling the step']


@pytest.mark.parametrize('share, words', [(0.5, '50%'), (1.004, '100%'), (1.3, 'over 100%')])
def test_a_share_of_the_peak_is_no_more_than_all_of_it(lines, share, words):
  Progress(0, 10, 'images').show(5, row(share))
  (line,) = lines()
  assert f'  {words} of peak' in line
  assert chips.above_peak(share) == (share > 1.01)


def test_a_peak_that_is_too_low_is_explained(monkeypatch):
  assert 'float32 product at the start' in device.why_above_peak()
  monkeypatch.setattr(chips, 'datasheet_peak', lambda kind: 1.0)
  assert f'{jax.devices()[0].device_kind} is faster than its datasheet' in device.why_above_peak()
