"""Tests the progress bar on a terminal and in a log."""

import os
import pty
import re
import subprocess
import sys

import pytest

from official_utils.misc.progress_bar import WIDEST, progress_bar

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COUNT = """
from official_utils.misc.progress_bar import progress_bar
with progress_bar("counting", 3_000_000, start=1_000_000) as bar:
  for _ in range(2_000):
    bar.update(1_000)
"""


def test_a_terminal_of_unknown_size_shows_rate_and_time_left():
  leader, follower = pty.openpty()
  process = subprocess.Popen([sys.executable, "-c", COUNT], cwd=ROOT, stderr=follower)
  os.close(follower)
  shown = b""
  while True:
    try:
      block = os.read(leader, 4096)
    except OSError:  # How Linux says that the other side is closed.
      break
    if not block:
      break
    shown += block
  os.close(leader)
  assert process.wait(60) == 0
  assert re.search(r"counting: +33%.*1\.00M/3\.00M \[00:00<\?", shown.decode())
  assert re.search(r"counting: 100%.*3\.00M/3\.00M \[00:00<00:00, [\d.]+[kMG]?B/s\]", shown.decode())


@pytest.mark.parametrize("columns", [50, 300])
def test_a_log_gets_the_beginning_and_the_end_in_lines_of_bounded_width(columns, monkeypatch, capsys):
  monkeypatch.setenv("COLUMNS", str(columns))
  with progress_bar("preparing", 5000, unit=" files") as bar:
    for _ in range(5000):
      bar.update()
  states = capsys.readouterr().err.strip().split("\r")
  assert [state[:15] for state in states] == ["preparing:   0%", "preparing: 100%"]
  assert max(map(len, states)) <= min(columns, WIDEST)
  assert "5000/5000" in states[-1]


def test_shows_what_has_no_known_end(capsys):
  with progress_bar("fetching", None) as bar:
    bar.update(2_000_000)
  assert "fetching: 2.00MB [" in capsys.readouterr().err
