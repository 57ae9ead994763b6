"""Types the real commands, reads what they print, and lets them learn."""

import contextlib
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import runs
import soundfile

import scoring
from data import manifest
from official_utils.lazy import tf
from training.model_dir import ModelDir

WAIT = r"(?: \(\d+% of the time waiting for input\))?"
BEST = r"\(epoch \d+, the best of the evaluation set\)"
CYCLE = re.compile(rf"epoch (\d+)/\d+  loss (\S+)  (\S+) utterances/s{WAIT}  WER (\S+)  CER (\S+)")


@pytest.fixture(scope="module")
def learning_flags(tmp_path_factory) -> list[str]:
  """Make the README's corpus with the README's command; return the training flags that the command prints."""
  data_dir = tmp_path_factory.mktemp("tones")
  command = [sys.executable, os.path.join(runs.ROOT, "data", "download.py"), "--corpus=tones", f"--data_dir={data_dir}"]
  done = subprocess.run(command, cwd=data_dir, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, "")
  line = done.stdout.splitlines()[-1].split()
  assert line[:2] == ["python", "deep_speech.py"]
  return line[2:]


def test_learns_the_tones(learning_flags, tmp_path):
  done = runs.start(tmp_path, *learning_flags, f"--model_dir={tmp_path / 'model'}")
  assert (done.returncode, done.stderr) == (0, "")
  lines = done.stdout.splitlines()
  cycles = [match for line in lines if (match := CYCLE.fullmatch(line))]
  assert float(cycles[-1][4]) <= 0.05
  # Between 0.09 and 0.19 over two draws of the first weights on TensorFlow 2.15 and 2.21.
  assert float(cycles[min(1, len(cycles) - 1)][4]) < 0.5
  assert re.fullmatch(rf"stopped: WER {cycles[-1][4]} after epoch {len(cycles)} is at or below .* 0.05", lines[-2])
  assert float(re.fullmatch(rf"test: WER (\S+)  CER \S+  {BEST}", lines[-1])[1]) <= 0.1
  # Nothing else is on the screen but the number format and the sizes of the three sets.
  assert lines[0].startswith("--dtype=auto: ")
  assert len(lines) == 4 + len(cycles) + 2
  said_again = scores_again(learning_flags, tmp_path)
  assert said_again == [float(number) for number in re.findall(r"[WC]ER (\S+)", lines[-1])]
  transcribes_what_was_not_heard(learning_flags, tmp_path)


def scores_again(learning_flags, folder) -> list[float]:
  """Score the test set by a run of its own, which takes the network's settings from the model_dir."""
  (test_set,) = (flag.split("=")[1] for flag in learning_flags if flag.startswith("--test_data_dir="))
  done = runs.start(
    folder, "--mode=evaluate", "--model_dir=model", "--checkpoint=best", f"--eval_data_dir={test_set}", "--num_gpus=0"
  )
  assert (done.returncode, done.stderr) == (0, "")
  (line,) = done.stdout.splitlines()
  return [float(number) for number in re.findall(r"[WC]ER (\S+)", line)]


def transcribes_what_was_not_heard(learning_flags, folder) -> None:
  """Export the network and transcribe the test set with the export, nearly without errors."""
  done = runs.start(folder, "--mode=export", "--model_dir=model", "--export_dir=exports")
  assert (done.returncode, done.stderr) == (0, "")
  assert os.listdir(folder / "exports" / "last")[0] in done.stdout
  (test_set,) = (flag.split("=")[1] for flag in learning_flags if flag.startswith("--test_data_dir="))
  entries = manifest.read_manifest(test_set)
  program = os.path.join(runs.ROOT, "transcribe.py")
  command = [sys.executable, program, "--model=exports", "--output_format=txt", *(entry.path for entry in entries)]
  done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  heard = [line.split("\t")[1] for line in done.stdout.splitlines()]
  assert scoring.score([entry.transcript for entry in entries], heard).wer <= 0.1


@pytest.mark.slow
def test_learns_nothing_from_shuffled_transcripts(learning_flags, tmp_path):
  options = dict(flag[2:].split("=", 1) for flag in learning_flags)
  entries = manifest.read_manifest(options["train_data_dir"])
  transcripts = [entry.transcript for entry in entries]
  random.Random(0).shuffle(transcripts)
  shuffled = [entry._replace(transcript=text) for entry, text in zip(entries, transcripts, strict=True)]
  manifest.write_manifest(str(tmp_path / "train.tsv"), shuffled)
  # Two epochs: after as many, the network that got the right transcripts is below 0.5.
  more = [f"--train_data_dir={tmp_path / 'train.tsv'}", f"--model_dir={tmp_path / 'model'}", "--train_epochs=2"]
  done = runs.start(tmp_path, *learning_flags, *more)
  assert done.returncode == 0, done.stderr
  cycles = [match for line in done.stdout.splitlines() if (match := CYCLE.fullmatch(line))]
  assert len(cycles) == 2
  assert min(float(cycle[4]) for cycle in cycles) > 0.9


def test_model_dir_restart_and_refusals(tones_dir, tmp_path):
  model_dir = tmp_path / "model"
  options = runs.arguments(tones_dir, str(model_dir), "--hooks=LoggingTensorHook,ProfilerHook,ExamplesPerSecondHook")
  hooks = ["--benchmark_logger_type=BenchmarkFileLogger", f"--benchmark_log_dir={tmp_path / 'log'}"]
  done = runs.start(tmp_path, *options, *hooks)
  assert done.returncode == 0, done.stderr
  names = set(os.listdir(model_dir))
  assert {"flags.json", "settings.json", "vocabulary.txt", "progress.json", "eval.jsonl", "checkpoint"} <= names
  assert json.loads((model_dir / "flags.json").read_text())["rnn_hidden_size"] == 8
  metrics = [json.loads(line) for line in (tmp_path / "log" / "metric.log").read_text().splitlines()]
  assert {"WER", "CER"} <= {metric["name"] for metric in metrics}
  refused = runs.start(tmp_path, *options, "--rnn_type=lstm")
  assert_one_clear_line(refused, "--rnn_type=gru", "--rnn_type=lstm")
  again = runs.start(tmp_path, *options, "--train_epochs=2", "--hooks=")
  assert again.returncode == 0, again.stderr
  assert again.stdout.count("epoch 2/2") == 1
  assert again.stdout.count("epoch 1/2") == 0
  cleaned = runs.start(tmp_path, *options, "--rnn_type=lstm", "--clean", "--hooks=LoggingMetricHook")
  assert cleaned.returncode == 0, cleaned.stderr
  assert str(model_dir) in cleaned.stderr
  assert tf.train.load_variable(str(model_dir), "global_step") == 3


def test_killed_in_the_middle_it_goes_on(tones_dir, tmp_path):
  """A kill loses at most the epoch in progress; it is trained anew, and the count of epochs comes out right."""
  model_dir = tmp_path / "model"
  options = runs.arguments(tones_dir, str(model_dir), "--train_epochs=200")
  command = [sys.executable, os.path.join(runs.ROOT, "deep_speech.py"), *options]
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  while not (model_dir / "eval.jsonl").exists() and process.poll() is None:
    time.sleep(0.1)
  time.sleep(1.0)
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  epochs = len((model_dir / "eval.jsonl").read_text().splitlines())
  done = runs.start(tmp_path, *options, f"--train_epochs={epochs + 2}")
  assert done.returncode == 0, done.stderr
  rows = [json.loads(line) for line in (model_dir / "eval.jsonl").read_text().splitlines()]
  assert [row["epoch"] for row in rows] == list(range(1, epochs + 3))


def read_rows(model_dir) -> list[dict]:
  path = model_dir / "eval.jsonl"
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_killed_between_evaluations_within_an_epoch_it_goes_on(tones_dir, tmp_path):
  """Every step takes longer than the time from one evaluation to the next; an epoch has three."""
  model_dir = tmp_path / "model"
  options = [*runs.arguments(tones_dir, "model"), "--eval_every_minutes=1e-9", "--best_metric=loss", "--keep_exports=0"]
  command = [sys.executable, os.path.join(runs.ROOT, "deep_speech.py"), *options, "--train_epochs=200"]
  process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  while len(read_rows(model_dir)) < 2 and process.poll() is None:
    time.sleep(0.1)
  process.kill()
  assert process.wait() == -signal.SIGKILL
  before, epochs = len(read_rows(model_dir)), ModelDir(str(model_dir)).completed_epochs(3)
  done = runs.start(tmp_path, *options, f"--train_epochs={epochs + 1}")
  assert done.returncode == 0, done.stderr
  rows = read_rows(model_dir)
  assert [row["epoch"] for row in rows[:2]] == [0.333, 0.666]
  # The epoch is trained anew, as any other that was interrupted.
  assert [row["epoch"] for row in rows[before:]][-3:] == [epochs + 0.333, epochs + 0.666, epochs + 1]
  assert f"epoch {epochs + 0.333}/{epochs + 1}  loss" in done.stdout
  best = min(rows, key=lambda row: row["eval_loss"])
  assert os.path.exists(model_dir / "best_checkpoint" / f"model.ckpt-{best['global_step']}.index")


def test_a_terminal_shows_how_far_training_is(tones_dir, tmp_path):
  primary, secondary = pty.openpty()
  command = [sys.executable, os.path.join(runs.ROOT, "deep_speech.py"), *runs.arguments(tones_dir, str(tmp_path))]
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=secondary)
  os.close(secondary)
  shown = b""
  # The terminal's end reads as an error once the program has closed its side.
  with contextlib.suppress(OSError):
    while part := os.read(primary, 4096):
      shown += part
  os.close(primary)
  assert process.wait() == 0
  assert re.search(rb"\rto epoch 1  step \d/3  loss [0-9.]+  \d+ s left\x1b\[K", shown)
  assert shown.endswith(b"\r\x1b[K")


def assert_one_clear_line(done, *parts: str) -> None:
  assert done.returncode in (1, 2)
  assert "Traceback" not in done.stderr
  errors = done.stderr.strip().splitlines()
  assert len(errors) == 1, done.stderr
  for part in parts:
    assert part in errors[0]


def write_manifest(tmp_path, audio, transcript: str = "abc") -> str:
  path = tmp_path / "bad.tsv"
  path.write_text(f"wav_filename\twav_filesize\ttranscript\n{audio}\t64044\t{transcript}\n")
  return f"--train_data_dir={path}"


def text_named_wav(tmp_path):
  (tmp_path / "text.wav").write_text("this is no audio")
  return write_manifest(tmp_path, tmp_path / "text.wav")


def empty_manifest(tmp_path):
  (tmp_path / "empty.tsv").write_text("")
  return f"--train_data_dir={tmp_path / 'empty.tsv'}"


def wrong_columns(tmp_path):
  (tmp_path / "columns.tsv").write_text("file\ttext\na.wav\tabc\n")
  return f"--train_data_dir={tmp_path / 'columns.tsv'}"


def unknown_character(tmp_path):
  return write_manifest(tmp_path, speech(tmp_path), "caf\u00e9")


def too_short_clip(tmp_path):
  return write_manifest(tmp_path, speech(tmp_path, 100), "a long transcript")


def wrong_vocabulary(tmp_path):
  (tmp_path / "vocabulary.txt").write_text("ab\nc\n")
  return f"--vocabulary_file={tmp_path / 'vocabulary.txt'}"


def speech(tmp_path, samples: int = 16000, rate: int = 16000, channels: int = 1) -> str:
  noise = np.random.default_rng(0).normal(0, 0.1, [samples, channels])
  path = str(tmp_path / f"{samples}_{rate}_{channels}.wav")
  soundfile.write(path, noise, rate)
  return path


BAD_INPUTS = {
  "missing manifest": (lambda tmp_path: f"--train_data_dir={tmp_path}/none.tsv", ["none.tsv", "data/download.py"]),
  "empty manifest": (empty_manifest, ["empty.tsv"]),
  "wrong columns": (wrong_columns, ["columns.tsv", "wav_filename"]),
  "missing audio": (lambda tmp_path: write_manifest(tmp_path, "/none/at/all.wav"), ["/none/at/all.wav", "line 2"]),
  "text as audio": (text_named_wav, ["text.wav", "cannot be read as audio"]),
  "unknown character": (unknown_character, ["bad.tsv:2", "\u00e9", "--on_unknown=drop"]),
  "wrong vocabulary": (wrong_vocabulary, ["vocabulary.txt", "line 1", "'ab'"]),
  "model_dir is no folder": (lambda _: "--model_dir=/dev/null/model", ["/dev/null/model", "--model_dir"]),
  "batch of none": (lambda _: "--batch_size=0", ["--batch_size=0"]),
  "more GPUs than there are": (lambda _: "--num_gpus=99", ["--num_gpus=99", "TensorFlow sees"]),
  "unknown flag": (lambda _: "--learning_rat=1", ["learning_rat"]),
  "unknown hook": (lambda _: "--hooks=Nothing", ["Nothing", "loggingtensorhook"]),
  "BigQuery": (lambda _: "--benchmark_logger_type=BenchmarkBigQueryLogger", ["BigQuery"]),
}


@pytest.mark.parametrize("name", list(BAD_INPUTS))
def test_bad_input_gets_one_clear_line(tones_dir, tmp_path, name):
  make, parts = BAD_INPUTS[name]
  options = runs.arguments(tones_dir, str(tmp_path / "model"), make(tmp_path))
  assert_one_clear_line(runs.start(tmp_path, *options), *parts)


def test_a_clip_too_short_for_its_words_is_named(tones_dir, tmp_path):
  """Its manifest lies about its size, so only the audio itself shows that nothing can be trained."""
  # The clip is also the whole training set.
  done = runs.start(tmp_path, *runs.arguments(tones_dir, str(tmp_path / "model"), too_short_clip(tmp_path)))
  assert "100_16000_1.wav" in done.stderr
  assert "output steps" in done.stderr
  assert done.returncode == 1
  assert "no utterance is long enough" in done.stderr.splitlines()[-1]
  assert "Traceback" not in done.stderr


def test_other_rates_channels_and_upper_case_are_converted(tones_dir, tmp_path):
  audio = speech(tmp_path, samples=44100, rate=44100, channels=2)
  options = runs.arguments(tones_dir, str(tmp_path / "model"), write_manifest(tmp_path, audio, "ABC"))
  done = runs.start(tmp_path, *options)
  assert done.returncode == 0, done.stderr
  assert CYCLE.search(done.stdout)
  assert "1 transcripts" in done.stderr
  assert "upper-case" in done.stderr


def test_help_answers_without_tensorflow(tmp_path):
  for option in ("--help", "-h"):
    done = runs.start(tmp_path, option)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("train_data_dir", "num_gpus", "stop_threshold", "benchmark_log_dir", "all_reduce_alg"):
      assert f"--{name}" in done.stdout or f"--[no]{name}" in done.stdout
  program = (
    "import sys, runpy\n"
    f"sys.argv = ['deep_speech.py', '--help']; sys.path.insert(0, {runs.ROOT!r})\n"
    f"try:\n  runpy.run_path({os.path.join(runs.ROOT, 'deep_speech.py')!r}, run_name='__main__')\n"
    "except SystemExit as end:\n  assert not end.code\n"
    "assert 'tensorflow' not in sys.modules\n"
  )
  done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_a_second_run_in_the_same_place_is_refused(tones_dir, tmp_path):
  options = [*runs.arguments(tones_dir, "model", "--train_epochs=1000")]
  command = [sys.executable, os.path.join(runs.ROOT, "deep_speech.py"), *options]
  first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  try:
    for line in first.stdout:
      if line.startswith("epoch 1/"):
        break
    for more in ([], ["--clean"]):
      second = runs.start(tmp_path, *options, *more)
      assert second.returncode == 1
      assert second.stderr.startswith("error: model: another process is training there"), second.stderr
    assert first.poll() is None
  finally:
    first.kill()
    first.communicate()
  assert runs.start(tmp_path, *options, "--train_epochs=1").returncode == 0
