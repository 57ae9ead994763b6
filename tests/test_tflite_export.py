"""Runs converted models through TensorFlow Lite's interpreter, beside the exports that they are made of."""

import glob
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import runs

import exports
import tflite_export
from data import audio, manifest
from official_utils.lazy import tf
from official_utils.misc.errors import UserError

SIZES = {"8_bits": "--quantize", "32_bits": "--noquantize"}


@pytest.fixture(scope="module")
def conversion(tones_model, tmp_path_factory) -> tuple[str, dict[str, subprocess.CompletedProcess]]:
  """Convert the tones model in both ways by the command; return the folder, and what each process said."""
  folder = str(tmp_path_factory.mktemp("tflite"))
  program = os.path.join(runs.ROOT, "tflite_export.py")
  command = [sys.executable, program, f"--export={tones_model}/export"]
  return folder, {
    name: subprocess.run([*command, f"--output={name}.tflite", option], cwd=folder, capture_output=True, text=True)
    for name, option in SIZES.items()
  }


def has_select_operations() -> bool:
  """Tell whether this TensorFlow's interpreter is one that knows TensorFlow's own operations."""
  return tuple(map(int, tf.__version__.split(".")[:2])) < (2, 20)


def check_refused(conversion) -> None:
  folder, processes = conversion
  for process in processes.values():
    (line,) = process.stderr.splitlines()
    assert process.returncode == 1
    assert line.startswith("error: ") and "convert the export with TensorFlow 2.15 to 2.19" in line
  assert os.listdir(folder) == []


def check_equal(log_probs: np.ndarray, expected: np.ndarray) -> None:
  np.testing.assert_allclose(log_probs, expected, atol=1e-4)


def check_near(log_probs: np.ndarray, expected: np.ndarray) -> None:
  """Compare within what 8 bits cost: weights are rounded to them, and the inputs of products with these weights."""
  np.testing.assert_allclose(np.exp(log_probs), np.exp(expected), atol=0.05)
  assert np.mean(np.abs(log_probs - expected)) < 0.05


def test_interpreter_gives_what_the_export_gives(conversion, tones_dir, tones_model):
  if not has_select_operations():
    check_refused(conversion)
    return
  model = exports.load_export(exports.find_export(f"{tones_model}/export"))
  recordings = [audio.read_audio(entry.path, 16000) for entry in manifest.read_manifest(f"{tones_dir}/test.tsv")]
  # The shortest give one step; one has no samples at all.
  clips = [*recordings, recordings[0][:5000], recordings[0][:100], recordings[0][:0]]
  length = np.array([len(clip) for clip in clips], np.int32)
  padded = np.full([len(clips), length.max() + 99], 0.5, np.float32)
  for row, clip in zip(padded, clips, strict=True):
    row[: len(clip)] = clip
  expected = model.log_probs(clips)
  texts = set()
  for name, check in (("32_bits", check_equal), ("8_bits", check_near)):
    run = tf.lite.Interpreter(f"{conversion[0]}/{name}.tflite").get_signature_runner(exports.SIGNATURE)
    together = run(audio=padded, length=length)
    for number, clip in enumerate(clips):
      alone = run(audio=clip[np.newaxis], length=length[number : number + 1])
      assert alone["log_probs"].shape == (1, *expected[number].shape)
      np.testing.assert_array_equal(alone["lengths"], [len(expected[number])])
      check(alone["log_probs"][0], expected[number])
      check(together["log_probs"][number, : together["lengths"][number]], expected[number])
      texts.add(alone["text"][0])
  assert len(texts) > 3


def test_the_command_tells_the_size_and_8_bits_are_a_quarter(conversion, tones_model):
  if not has_select_operations():
    check_refused(conversion)
    return
  folder, processes = conversion
  sizes = {name: os.path.getsize(f"{folder}/{name}.tflite") for name in SIZES}
  for name, process in processes.items():
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"{name}.tflite: {sizes[name] / 1e6:.1f} MB\n"
  (weights,) = glob.glob(f"{exports.find_export(f'{tones_model}/export')}/variables/variables.data*")
  assert sizes["8_bits"] < os.path.getsize(weights) / 3 and os.path.getsize(weights) < sizes["32_bits"]


def test_what_cannot_be_converted_or_written_is_named(tones_model, tmp_path, capfd):
  with pytest.raises(UserError, match=f"^{tmp_path}: no export is there; write one with --mode=export$"):
    tflite_export.export_tflite(str(tmp_path), str(tmp_path / "model.tflite"))
  damaged = tmp_path / "damaged"
  shutil.copytree(exports.find_export(f"{tones_model}/export"), damaged)
  for path in glob.glob(f"{damaged}/variables/*"):
    os.unlink(path)
  with pytest.raises(UserError, match=f"^{damaged}: the export is damaged"):
    tflite_export.export_tflite(str(damaged), str(tmp_path / "model.tflite"))
  in_the_way = tmp_path / "folder.tflite"
  in_the_way.mkdir()
  message = f"^cannot write {in_the_way}: " if has_select_operations() else "2.15 to 2.19$"
  with pytest.raises(UserError, match=message):
    tflite_export.export_tflite(f"{tones_model}/export", str(in_the_way))
  assert sorted(os.listdir(tmp_path)) == ["damaged", "folder.tflite"]
  assert capfd.readouterr() == ("", "")
