"""Types the real commands for a network with many options: it is trained, resumed, evaluated, exported and transcribes."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import runs

import transcribe
from data import audio, manifest
from official_utils.lazy import tf

OPTIONS = [
  "--rnn_sizes=12,16,16",
  "--rnn_type=lstm",
  "--nois_bidirectional",
  "--rnn_residual",
  "--rnn_gate_activation=hard_sigmoid",
  "--rnn_init=orthogonal",
  "--row_conv_width=3",
  "--fc_units=24",
  "--dropout=0.1",
  "--normalization=layer",
  "--conv_layout=paper",
  "--conv_bias",
  "--conv_padding=same",
  "--time_subsampling=4",
]


@pytest.fixture(scope="module")
def train(tones_dir, tmp_path_factory):
  """Return a function that trains for some epochs in a model_dir of some name, which it returns."""
  folder = tmp_path_factory.mktemp("options")

  def run(name: str, num_epochs: int):
    paths = [f"--train_data_dir={tones_dir}/train.tsv", f"--eval_data_dir={tones_dir}/dev.tsv"]
    common = ["--num_gpus=0", "--batch_size=4", "--learning_rate=0.0003"]
    done = runs.start(folder, *paths, *common, *OPTIONS, f"--model_dir={name}", f"--train_epochs={num_epochs}")
    assert (done.returncode, done.stderr) == (0, "")
    return folder / name

  return run


@pytest.fixture(scope="module")
def model_dir(train):
  """Train, and train on."""
  train("model", 1)
  return train("model", 2)


def test_a_resumed_run_draws_the_same_dropout(train, model_dir):
  resumed, straight = (tf.train.load_checkpoint(str(each)) for each in (model_dir, train("straight", 2)))
  names = resumed.get_variable_to_shape_map()
  assert {"row_convolution/weights", "fc/kernel", "cnn_2/bias", "layer_normalization/gamma"} <= names.keys()
  for name in names:
    np.testing.assert_allclose(resumed.get_tensor(name), straight.get_tensor(name), rtol=1e-4, atol=1e-5, err_msg=name)


def test_an_export_transcribes_what_evaluation_hears(tones_dir, model_dir):
  """With the settings of the model_dir and of the export, which no command is told. It is not words yet."""
  test_set = f"{tones_dir}/test.tsv"
  command = ["--mode=evaluate", "--model_dir=model", f"--eval_data_dir={test_set}", "--show_samples=5", "--num_gpus=0"]
  scored = runs.start(model_dir.parent, *command)
  assert (scored.returncode, scored.stderr) == (0, "")
  exported = runs.start(model_dir.parent, "--mode=export", "--model_dir=model", "--export_dir=exports")
  assert exported.returncode == 0, exported.stderr
  paths = [entry.path for entry in manifest.read_manifest(test_set)]
  program = os.path.join(runs.ROOT, "transcribe.py")
  done = subprocess.run(
    [sys.executable, program, "--model=exports", "--output_format=txt", *paths],
    cwd=model_dir.parent,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  texts = dict(line.split("\t") for line in done.stdout.splitlines())
  heard = dict(re.findall(r"^(\S+)\n  said:  .*\n  heard: (.*)$", scored.stdout, re.MULTILINE))
  assert heard.keys() == texts.keys() == set(paths)
  assert {path: " ".join(text.split()) for path, text in heard.items()} == texts
  assert len(set(texts.values())) > 2
  models = [transcribe.load_model(str(model_dir.parent / "exports"), dtype=dtype).model for dtype in ("fp32", "bf16")]
  exact, rounded = (each.log_probs([audio.read_audio(paths[0], 16000)])[0] for each in models)
  assert 0 < np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()
