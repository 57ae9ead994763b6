"""Tests the command that fetches a corpus, as a process and from another folder."""

import fcntl
import os
import re
import shlex
import subprocess
import sys

import pytest
import recordings
import runs

from data import download
from data.manifest import Entry, duration_to_size, read_manifest, write_manifest

COMMAND = os.path.abspath(download.__file__)


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
  """Hide the machine's GPUs: what is suggested depends on them."""
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def options_of(printed: str) -> dict[str, str]:
  """Read the command in the last line as a shell does; return its flags."""
  program, script, *options = shlex.split(printed.splitlines()[-1])
  assert (program, script) == ("python", "deep_speech.py")
  assert all(option.startswith("--") and "=" in option for option in options)
  return dict(option.removeprefix("--").split("=", 1) for option in options)


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
    (["--mirror=nowhere"], r"--mirror=nowhere is not an address"),
    (["--subsets=train-clean"], r"--subsets: there is no 'train-clean'"),
    (["--subsets=dev-clean", "--train_only"], r"dev-clean has no train set; leave out --train_only"),
    (["--max_duration=0"], r"--max_duration=0 leaves nothing"),
    (["--corpus=tones", "--mirror=official"], r"--mirror means nothing to --corpus=tones; leave it out"),
    (["--corpus=tones", "--digits=spell"], r"--digits means nothing to --corpus=tones"),
    (["--seed=1"], r"--seed means nothing to --corpus=librispeech"),
    (["--corpus=mini_librispeech", "--test_only"], r"has no test set"),
    (["--corpus=nothing"], r"--corpus=nothing.*tones"),
    (["--corpus=tones", "--train_only", "--dev_only"], r"--train_only and --dev_only exclude each other"),
    (["--corpus=folder", "--source=.", "--vocabulary_file=letters"], r"letters: the last line is 'b'.*blank"),
    (["--corpus=folder", "--source=.", "--vocabulary_file=none"], r"none: cannot read the vocabulary"),
    (["--corpus=tones", "--seed=-1"], r"--seed=-1 is negative"),
    (["--corpus=tones", "--data_dir=file/below"], r"--data_dir=file/below: .*give another folder"),
    (["tones"], r"tones"),
  ],
)
def test_names_a_mistake_in_one_line(arguments, words, tmp_path):
  (tmp_path / "file").write_text("a file where a folder is wanted")
  (tmp_path / "letters").write_text("a\nb\n")
  done = run(tmp_path, *arguments)
  assert done.returncode != 0
  assert done.stderr.count("\n") == 1
  assert re.search(words, done.stderr)


def test_prepares_a_folder_as_the_flags_say_and_says_what_is_missing(tmp_path):
  for number, text in enumerate(["Yes", "No. 7"]):
    recordings.write(tmp_path / "mine" / "train" / f"{number}.flac", 0.5)
    recordings.write_text(tmp_path / "mine" / "train" / f"{number}.txt", text)
  arguments = ["--corpus=folder", "--source=mine", "--data_dir=.", "--digits=spell", "--to_wav"]
  needed = "Training takes a train and a dev manifest, and there is no"
  done = run(tmp_path, *arguments)
  assert done.returncode == 0, done.stderr
  assert recordings.transcripts({"train": str(tmp_path / "folder" / "train.tsv")}) == {
    "train": {"0.wav": "yes", "1.wav": "no seven"}
  }
  # No flag has left anything out.
  assert done.stdout.splitlines()[-1] == f"{needed} dev set; `python data/curate.py split` makes both of one manifest."
  done = run(tmp_path, *arguments, "--train_only")
  assert done.stdout.splitlines()[-1] == f"{needed} dev set; without --train_only, all sets of the corpus are made."
  done = run(tmp_path, *arguments, "--dev_only")
  assert (done.returncode, done.stderr.splitlines()[-1]) == (
    1,
    "error: ./folder: no utterance is left for a dev set; transcripts: 0; changed: none; left out: none",
  )


def test_an_error_of_a_file_elsewhere_does_not_blame_the_data_dir(tmp_path):
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "a.tgz").symlink_to("nowhere")
  done = run(tmp_path, "--corpus=voxforge", "--source=mine", "--data_dir=here")
  assert (done.returncode, done.stderr) == (
    1,
    "error: mine/a.tgz: No such file or directory; fix it, or remove it from --source\n",
  )


def test_lets_no_other_download_into_the_folder(tmp_path):
  with open(tmp_path / ".download.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = run(tmp_path, "--corpus=tones", "--data_dir=.")
  assert done.returncode == 1
  assert re.search(r"another download\.py is at work there", done.stderr)


def test_suggests_a_training_that_fits_a_few_recordings(tmp_path):
  for number in range(30):
    recordings.write(tmp_path / "my own" / f"{number}.wav", 1 + number / 10)
    recordings.write_text(tmp_path / "my own" / f"{number}.txt", "ja")
  (tmp_path / "my words.txt").write_text("j\na\n-\n")
  done = run(tmp_path, "--corpus=folder", "--source=my own", "--data_dir=my data", "--vocabulary_file=my words.txt")
  assert done.returncode == 0, done.stderr
  where = r"on the CPU \(no NVIDIA GPU is to be seen; roughly \d minutes on \d+ cores\)"
  assert re.fullmatch(rf"Train on 24 utterances, 0\.017 hours, {where} with", done.stdout.splitlines()[-2])
  options = options_of(done.stdout)
  assert (
    options.items()
    >= {
      "train_data_dir": "my data/folder/train.tsv",
      "eval_data_dir": "my data/folder/dev.tsv",
      "vocabulary_file": "my words.txt",
      "model_dir": "my data/model-folder",
      "num_gpus": "0",
      "rnn_hidden_layers": "2",
      "batch_size": "4",
      "train_epochs": "340",
      "epochs_between_evals": "34",
      "dtype": "auto",
    }.items()
  )


def make_manifests(folder, num_utterances: int, seconds: float) -> dict[str, str]:
  """Write manifests of recordings that nobody will look for."""
  entries = [Entry(f"{number}.wav", duration_to_size(seconds), "a") for number in range(num_utterances)]
  manifests = {"train": str(folder / "my train.csv"), "dev": str(folder / "d.csv")}
  for path in manifests.values():
    write_manifest(path, entries)
  return manifests


def test_librispeech_is_trained_on_gpus_as_by_the_original(tmp_path):
  manifests = make_manifests(tmp_path, 13000, 12.5)
  hint = download.training_hint(download.CORPORA["librispeech"], manifests, "m", 8)
  assert hint.startswith(
    "Train on 13000 utterances, 45.1 hours, on 8 NVIDIA GPUs with\n  python deep_speech.py --num_gpus=-1 "
  )
  assert options_of(hint) == {
    "num_gpus": "-1",
    "train_data_dir": manifests["train"],
    "eval_data_dir": manifests["dev"],
    "model_dir": "m",
    "warmup_steps": "1000",
    "dtype": "auto",
    "clip_norm": "5",
    "learning_rate_schedule": "cosine",
  }
  hint = download.training_hint(download.CORPORA["librispeech"], manifests, "m", 0)
  assert "on the CPU" in hint
  assert options_of(hint).items() >= {"num_gpus": "0", "rnn_hidden_size": "512", "batch_size": "32"}.items()


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_every_corpus_gets_a_command_that_the_program_understands(num_gpus, tmp_path):
  manifests = make_manifests(tmp_path, 1000, 2.0)
  known = runs.parse()
  for name, corpus in download.CORPORA.items():
    hint = download.training_hint(corpus, manifests | {"test": "t.csv"}, f"model-{name}", num_gpus, "v.txt")
    options = options_of(hint)
    assert options["test_data_dir"] == "t.csv"
    runs.parse(*(f"--{flag}={value}" for flag, value in options.items() if flag in known and flag != "dtype"))


def run_without_tensorflow(folder, *arguments: str) -> str:
  """Run the command and make sure that it has not loaded TensorFlow; return what it printed."""
  script = (
    "import runpy, sys\n"
    f"sys.argv = {[COMMAND, *arguments]}\n"
    "try:\n"
    f"  runpy.run_path({COMMAND!r}, run_name='__main__')\n"
    "except SystemExit as end:\n"
    "  assert not end.code, end.code\n"
    "assert 'tensorflow' not in sys.modules\n"
  )
  done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=300)
  assert (done.returncode, done.stderr) == (0, "")
  return done.stdout


def test_help_names_every_flag_without_loading_tensorflow(tmp_path):
  printed = run_without_tensorflow(tmp_path, "--help")
  names = "data_dir corpus subsets mirror max_duration to_wav train_only dev_only test_only seed"
  for flag in names.split():
    assert f"--{flag}" in printed


def test_finds_the_device_without_loading_tensorflow(tmp_path):
  options = options_of(run_without_tensorflow(tmp_path, "--corpus=tones", "--data_dir=here"))
  assert (options["num_gpus"], options["model_dir"]) == ("0", "here/model-tones")
  assert "model-tones" not in os.listdir(tmp_path / "here")
