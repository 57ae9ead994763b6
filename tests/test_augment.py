"""Tests the command that shows augmentations, and training with them, as a user would start both."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import runs
import soundfile

from data import augment
from data.augmentation.augmenter import KINDS

COMMAND = os.path.abspath(augment.__file__)
RATE = 16000


def preview(folder, *arguments: str) -> subprocess.CompletedProcess:
  return subprocess.run([sys.executable, COMMAND, *arguments], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def recording(tmp_path) -> str:
  swell = np.sin(np.pi * np.arange(RATE) / RATE)
  samples = 0.3 * swell * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
  soundfile.write(tmp_path / "in.wav", samples, RATE)
  return "in.wav"


def test_every_kind_is_shown(recording, tmp_path):
  done = preview(tmp_path, "--preview", recording, "out")
  assert (done.returncode, done.stderr) == (0, "")
  heading, original, *rows = done.stdout.splitlines()
  assert heading.split() == ["seconds", "level,", "dB", "centroid,", "Hz", "drawn"]
  assert original.split() == ["original", "1.000", "-16.5", "500"]
  assert [row.split()[0].split("-", 1)[1] for row in rows] == list(KINDS)
  names = [row.split()[0] for row in (original, *rows)]
  assert sorted(os.listdir(tmp_path / "out")) == sorted(f"{name}.{end}" for name in names for end in ("wav", "png"))
  seconds = {}
  for row in rows:
    name, length, level, centroid, *drawn = row.split()
    samples, rate = soundfile.read(tmp_path / "out" / f"{name}.wav")
    assert rate == RATE
    assert float(length) == pytest.approx(len(samples) / RATE, abs=6e-4)
    assert float(level) == pytest.approx(augment.level(samples), abs=0.06)
    seconds[name.split("-", 1)[1]] = float(length), float(centroid), dict(each.split("=") for each in drawn)
  length, _, drawn = seconds["shift"]
  assert length == pytest.approx(1 + abs(float(drawn["ms"])) / 1000, abs=1e-3)
  length, centroid, drawn = seconds["stretch"]
  assert length == pytest.approx(1 / float(drawn["rate"]), abs=2e-3)
  assert centroid == pytest.approx(500, abs=5)
  length, centroid, drawn = seconds["speed"]
  assert length == pytest.approx(1 / float(drawn["rate"]), abs=2e-3)
  assert centroid == pytest.approx(500 * float(drawn["rate"]), rel=0.01)


def test_several_are_shown_alone_and_together(recording, tmp_path):
  chosen = ["--augment=gain[db=6,p=0]", "--augment=shift[ms=500]", "--augment=gain[db=0:10]"]
  done = preview(tmp_path, f"--preview={recording}", "out", *chosen, "--train_epochs=3", "--epoch=2")
  assert (done.returncode, done.stderr) == (0, "")
  rows = [row.split() for row in done.stdout.splitlines()[1:]]
  assert [row[:3] for row in rows] == [
    ["original", "1.000", "-16.5"],
    ["01-gain", "1.000", "-10.5"],
    ["02-shift", "1.500", "-18.2"],
    ["03-gain", "1.000", "-6.5"],
    ["all", "1.500", "-2.2"],
  ]
  assert rows[-1][4:] == ["db=6", "ms=500", "db=10"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["out"], "--preview names no recording; give one, such as --preview=talk.wav"),
    (["--preview=in.wav"], "there is nothing to do; give DIR"),
    (["--preview=in.wav", "a", "b"], "2 folders are given; give one, where everything goes"),
    (["--preview=missing.wav", "out"], "missing.wav: cannot read the audio file"),
    (["--preview=in.wav", "--augment=echo", "out"], "'echo' does not exist; give one of shift,"),
    (["--preview=in.wav", "--augment=none", "out"], "--augment=none leaves nothing to show; leave it out"),
    (["--preview=in.wav", "in.wav"], "cannot write into in.wav"),
  ],
)
def test_mistakes_are_one_line(recording, tmp_path, arguments, message):
  done = preview(tmp_path, *arguments)
  assert done.returncode in (1, 2)
  assert message in done.stderr
  assert done.stderr.count("\n") == 1


def test_help_lists_every_kind():
  done = preview(None, "--help")
  assert done.returncode == 0
  assert re.findall(r"^  (\w+): ", done.stdout, re.MULTILINE) == list(KINDS)


def test_levels_and_centroids():
  assert augment.level(np.full(10, 0.1)) == pytest.approx(-20)
  assert augment.level(np.zeros(3)) == augment.QUIETEST_DECIBELS
  assert augment.centroid(np.zeros(3), RATE) == 0


def test_training_with_several_kinds_and_a_cache(tones_dir, tmp_path):
  """Train from a flag file, without the cache for samples that change, with it for masks; evaluation is as ever."""
  recipe = tmp_path / "recipe"
  recipe.write_text("--augment=shift\n--augment=speed[p=0.5]\n--augment=noise[snr=10..20]\n--augment=babble[p=0:0.5]\n")
  cache = f"--feature_cache_dir={tmp_path / 'cache'}"
  options = [*runs.arguments(tones_dir, "model", "--train_epochs=2", "--batch_seconds=20"), cache]
  done = runs.start(tmp_path, *options, f"--flagfile={recipe}", "--augment=time_masks")
  assert done.returncode == 0, done.stderr
  assert done.stderr.splitlines() == [
    f"warning: --feature_cache_dir={tmp_path / 'cache'} is not used for {tones_dir}/train.tsv: --augment=shift makes other "
    "samples in each epoch."
  ]
  with open(tmp_path / "model" / "flags.json", encoding="utf-8") as file:
    assert json.load(file)["augment"] == [
      "shift",
      "speed[p=0.5]",
      "noise[snr=10..20]",
      "babble[p=0:0.5]",
      "time_masks",
    ]
  assert "epoch 2/2" in done.stdout
  masked = runs.start(tmp_path, *options, "--augment=time_masks", "--augment=frequency_masks", "--model_dir=masked")
  assert (masked.returncode, masked.stderr) == (0, "")
  rows = []
  for extra in ([], [f"--flagfile={recipe}"]):
    scored = runs.start(
      tmp_path, "--mode=evaluate", "--model_dir=model", *extra, f"--eval_data_dir={tones_dir}/dev.tsv"
    )
    assert (scored.returncode, scored.stderr) == (0, "")
    rows.append(scored.stdout)
  assert rows[0] == rows[1]
