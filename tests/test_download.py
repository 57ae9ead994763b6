"""Tests the command that fetches a corpus, as a process and from another folder."""

import os
import re
import subprocess
import sys

import pytest

from data import download
from data.manifest import read_manifest

COMMAND = os.path.abspath(download.__file__)


def run(folder, *arguments: str) -> subprocess.CompletedProcess:
  command = [sys.executable, COMMAND, *arguments]
  return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_makes_the_tones_corpus_and_says_how_to_train_on_it(tmp_path):
  done = run(tmp_path, "--corpus=tones", "--data_dir=here", "--seed=3")
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""
  for split, flag in (("train", "train_data_dir"), ("dev", "eval_data_dir"), ("test", "test_data_dir")):
    path = os.path.join("here", "tones", f"{split}.tsv")
    assert f"wrote {path}" in done.stdout
    assert re.search(rf"python deep_speech\.py .*--{flag}={re.escape(path)} ", done.stdout)
    assert len(read_manifest(str(tmp_path / path))) >= 50


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_makes_one_split_only(split, tmp_path):
  done = run(tmp_path, "--corpus=tones", "--data_dir=.", f"--{split}_only")
  assert done.returncode == 0, done.stderr
  assert sorted(os.listdir(tmp_path / "tones")) == [split, f"{split}.tsv"]
  assert "deep_speech.py" not in done.stdout


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    ([], r"--corpus is not given.*--corpus=tones"),
    (["--corpus=nothing"], r"--corpus=nothing.*tones"),
    (["--corpus=tones", "--train_only", "--dev_only"], r"--train_only and --dev_only exclude each other"),
    (["--corpus=tones", "--seed=-1"], r"--seed=-1 is negative"),
    (["--corpus=tones", "--data_dir=file/below"], r"--data_dir=file/below: .*give another folder"),
    (["tones"], r"tones"),
  ],
)
def test_names_a_mistake_in_one_line(arguments, words, tmp_path):
  (tmp_path / "file").write_text("a file where a folder is wanted")
  done = run(tmp_path, *arguments)
  assert done.returncode != 0
  assert done.stderr.count("\n") == 1
  assert re.search(words, done.stderr)


def test_help_names_every_flag_without_loading_tensorflow(tmp_path):
  script = (
    "import runpy, sys\n"
    f"sys.argv = [{COMMAND!r}, '--help']\n"
    "try:\n"
    f"  runpy.run_path({COMMAND!r}, run_name='__main__')\n"
    "except SystemExit as end:\n"
    "  assert not end.code, end.code\n"
    "assert 'tensorflow' not in sys.modules\n"
  )
  done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  for flag in ("data_dir", "corpus", "train_only", "dev_only", "test_only", "seed"):
    assert f"--{flag}" in done.stdout
