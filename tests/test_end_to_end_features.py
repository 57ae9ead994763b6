"""Trains on each kind of features and with each normalisation, and holds all that comes after against each other."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import runs

import deep_speech
import transcribe
from data import manifest
from official_utils.misc.errors import UserError
from settings import STATISTICS_FILE, read_statistics


def heard(printed: str) -> list[str]:
  """Find the texts that --show_samples prints, as `transcribe` writes them: one space from word to word."""
  return [" ".join(text.split()) for text in re.findall("^  heard: (.*)$", printed, re.MULTILINE)]


def recordings_of(path: str) -> list[str]:
  """Return the recordings of a manifest from short to long, as they are printed."""
  return [entry.path for entry in sorted(manifest.read_manifest(path), key=lambda entry: entry.size)]


@pytest.mark.parametrize(
  "features",
  [
    ("--features=spectrogram", "--feature_norm=corpus"),
    ("--features=log_mel", "--feature_norm=running", "--num_mel_bins=40"),
    ("--features=magnitude", "--feature_norm=none"),
    ("--features=log_mel", "--feature_norm=utterance", "--fft_length=512"),
  ],
  ids=lambda features: " ".join(features),
)
def test_what_is_trained_is_evaluated_exported_and_transcribed_alike(features, tones_dir, tmp_path, capsys):
  model_dir, train_set = str(tmp_path / "model"), f"{tones_dir}/train.tsv"
  cache = f"--feature_cache_dir={tmp_path / 'cache'}"
  options = runs.arguments(tones_dir, model_dir, "--learning_rate=0.01", "--keep_exports=0", *features)
  deep_speech.run_deep_speech(runs.parse(*options, "--train_epochs=1"))
  # Goes on, this time with stored features. Later a network on its way to the words hears nothing for a while.
  deep_speech.run_deep_speech(runs.parse(*options, "--train_epochs=2", cache))
  capsys.readouterr()
  later = [f"--model_dir={model_dir}", "--num_gpus=0"]
  evaluation = [*later, "--mode=evaluate", f"--eval_data_dir={train_set}", "--show_samples=22"]
  deep_speech.evaluate_checkpoint(runs.parse(*evaluation))
  texts = heard(capsys.readouterr().out)
  assert len(texts) == 22
  assert len(set(texts)) > 5
  deep_speech.export_checkpoint(runs.parse(*later, "--mode=export", f"--export_dir={tmp_path / 'exports'}"))
  for path in (model_dir, str(tmp_path / "exports")):
    assert transcribe.load_model(path)(recordings_of(train_set)) == texts


def test_statistics_stay_with_the_model(tones_dir, tmp_path):
  """The commands as a user types them; in between the file is lost, and restored from an export."""
  options = runs.arguments(tones_dir, str(tmp_path / "model"), "--features=log_mel", "--feature_norm=corpus")
  done = runs.start(tmp_path, *options)
  assert done.returncode == 0, done.stderr
  assert "\nfeatures: mean and deviation of 22 of 22 utterances that are trained on\n" in done.stdout
  assert "measuring features: 100%" in done.stderr
  path = tmp_path / "model" / STATISTICS_FILE
  there = read_statistics(str(path))
  path.unlink()
  for use, mode in ((deep_speech.run_deep_speech, "train"), (deep_speech.evaluate_checkpoint, "evaluate")):
    with pytest.raises(UserError, match=f"model/{STATISTICS_FILE}: cannot be read .* restore it: .* of its exports"):
      use(runs.parse(*options, f"--mode={mode}", "--train_epochs=2"))
  (asset,) = (tmp_path / "model" / "export" / "last").glob(f"*/assets/{STATISTICS_FILE}")
  shutil.copy(asset, path)
  assert read_statistics(str(path)) == there
  done = runs.start(tmp_path, *options, "--train_epochs=2")
  # Nothing is measured again.
  assert (done.returncode, done.stderr) == (0, "")
  assert "mean and deviation" not in done.stdout
  command = [sys.executable, os.path.join(runs.ROOT, "transcribe.py"), "--model=model"]
  command += recordings_of(f"{tones_dir}/dev.tsv")
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert len(done.stdout.splitlines()) == 6
