"""Tests the command that fetches a corpus, as a process and from another folder."""

import fcntl
import os
import re
import shlex
import subprocess
import sys

import pytest
from absl import flags
from archive_server import make_subset, make_tar, publish, serve

import speech_flags
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
    assert f"\n  {path}\n" in done.stdout
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
    (["--mirror=nowhere"], r"--mirror=nowhere is no address"),
    (["--subsets=train-clean"], r"--subsets: there is no 'train-clean'"),
    (["--subsets=dev-clean", "--train_only"], r"dev-clean has no train set; leave out --train_only"),
    (["--max_duration=0"], r"--max_duration=0 leaves nothing"),
    (["--corpus=tones", "--mirror=official"], r"--mirror means nothing to --corpus=tones; leave it out"),
    (["--seed=1"], r"--seed means nothing to --corpus=librispeech"),
    (["--corpus=mini_librispeech", "--test_only"], r"has no test set"),
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


def test_librispeech_is_the_default_and_then_deep_speech_has_what_it_looks_for(tmp_path, monkeypatch):
  monkeypatch.setenv("no_proxy", "*")
  subsets = {name: make_tar(make_subset(name, 1, 1)) for name in ("train-clean-100", "train-clean-360", "dev-clean")}
  with serve(publish(subsets)) as served:
    arguments = [f"--mirror={served.url}", f"--subsets={','.join(subsets)}", "--data_dir=here"]
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    defaults = flags.FlagValues()
    speech_flags.define_deep_speech_flags(defaults)
    train, dev = (
      os.path.join("here", os.path.basename(defaults[name].default)) for name in ("train_data_dir", "eval_data_dir")
    )
    assert len(read_manifest(str(tmp_path / train))) == 8
    assert len(read_manifest(str(tmp_path / dev))) == 4
    hint = f"  python deep_speech.py --train_data_dir={train} --eval_data_dir={dev} --num_gpus=-1"
    assert done.stdout.splitlines()[-1] == hint
    assert "fetching dev-clean.tar.gz: 100%" in done.stderr
    served.log.clear()
    again = run(tmp_path, *arguments)
    assert (again.returncode, again.stderr, served.log) == (0, "", [])
    assert "dev-clean: is already in here/dev-clean" in again.stdout
    assert again.stdout.splitlines()[-1] == hint


def test_lets_no_other_download_into_the_folder(tmp_path):
  with open(tmp_path / ".download.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = run(tmp_path, "--corpus=tones", "--data_dir=.")
  assert done.returncode == 1
  assert re.search(r"another download\.py is at work there", done.stderr)


def test_the_command_to_train_with_can_be_pasted_into_a_shell():
  corpus = download.CORPORA["librispeech"]
  hint = download.training_hint(corpus, {"train": "my data/a+b.csv", "dev": "d.csv"})
  words = shlex.split(hint.splitlines()[-1])
  assert words[2:] == ["--train_data_dir=my data/a+b.csv", "--eval_data_dir=d.csv", "--num_gpus=-1"]


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
  names = "data_dir corpus subsets mirror max_duration to_wav train_only dev_only test_only seed"
  for flag in names.split():
    assert f"--{flag}" in done.stdout
