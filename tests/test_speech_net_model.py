"""Holds SpeechNet against its published formulas in plain numpy, and shows that padding changes nothing."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import runs
from hypothesis import given, settings
from hypothesis import strategies as st

import inference
import networks
import speech_net_model
from data import manifest
from layers import ctc
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import SpeechNetSettings

BINS, CLASSES = 12, 6
BEST = SpeechNetSettings(
  stacks=6,
  stack_filters=384,
  stack_kernel_size=7,
  stack_dilation_rates="1,3,9,27",
  causal_convolutions=False,
)


def small(**values) -> SpeechNetSettings:
  return SpeechNetSettings(**{"stacks": 2, "stack_filters": 5, "stack_dilation_rates": "1,3", **values})


def far_values(variables) -> dict[str, np.ndarray]:
  """Choose a value for each variable that is far from where it starts, the moving statistics and biases above all."""
  rng = np.random.default_rng(7)
  values = {}
  for variable in variables:
    name, shape = variable.op.name, variable.shape.as_list()
    if name.endswith(("gamma", "moving_variance")):
      values[name] = rng.uniform(0.5, 2, shape)
    else:
      values[name] = rng.normal(0, 1 / np.sqrt(np.prod(shape[:-1])) if name.endswith("kernel") else 0.5, shape)
  return values


class Network:
  """A network with the values of `far_values`; use it in a with statement."""

  def __init__(self, network_settings, training=False, dtype=tf.float32, compute_dtype=None, bins=BINS):
    self.graph = tf.Graph()
    with self.graph.as_default():
      self.features = tf.compat.v1.placeholder(dtype, [None, None, bins, 1])
      self.frames = tf.compat.v1.placeholder(tf.int32, [None])
      self.labels = tf.compat.v1.placeholder(tf.int32, [None, None])
      self.label_lengths = tf.compat.v1.placeholder(tf.int32, [None])
      network = networks.make_network(network_settings, CLASSES, compute_dtype=compute_dtype)
      self.logits, self.lengths = network(self.features, self.frames, training)
      losses = ctc.ctc_losses(tf.cast(self.logits, tf.float32), self.lengths, self.labels, self.label_lengths)
      self.variables = tf.compat.v1.trainable_variables()
      self.gradients = tf.gradients(tf.reduce_sum(losses), self.variables)
      self.session = tf.compat.v1.Session()
      everything = tf.compat.v1.global_variables()
      self.values = far_values(everything)
      for variable in everything:
        variable.load(self.values[variable.op.name], self.session)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.session.close()

  def infer(self, features, frames):
    """Return logits [batch, frames, classes] and lengths."""
    return self.session.run([self.logits, self.lengths], {self.features: features, self.frames: frames})

  def run_gradients(self, features, frames, labels, label_lengths) -> dict[str, np.ndarray]:
    feeds = {self.features: features, self.frames: frames, self.labels: labels, self.label_lengths: label_lengths}
    names = [variable.op.name for variable in self.variables]
    return dict(zip(names, self.session.run(self.gradients, feeds), strict=True))


def utterances(lengths) -> list[np.ndarray]:
  rng = np.random.default_rng(5)
  return [rng.normal(-3, 2, [length, BINS]) for length in lengths]


def padded(parts, num_frames: int, filler: float = np.nan) -> np.ndarray:
  """Stack utterances [frames, bins] into [batch, num_frames, bins, 1] with a filler in the padding."""
  features = np.full([len(parts), num_frames, BINS, 1], filler)
  for row, part in zip(features, parts, strict=True):
    row[: len(part), :, 0] = part
  return features


class Published:
  """The published network, utterance by utterance, with the values of `far_values` and frozen statistics or its own."""

  def __init__(self, chosen: SpeechNetSettings, values: dict[str, np.ndarray], training: bool):
    self.chosen, self.values, self.training = chosen, values, training

  def network(self, parts: list[np.ndarray]) -> list[np.ndarray]:
    parts = self.pointwise(self.normalize(parts, "input_normalization"), "expand")
    for number in range(1, self.chosen.stacks + 1):
      parts = self.stack(parts, f"stack_{number}/")
    return self.pointwise(self.normalize(parts, "output_normalization"), "out")

  def stack(self, parts, scope):
    total = 0
    for number, rate in enumerate(self.chosen.stack_dilation_rates.split(","), start=1):
      parts, skips = self.block(parts, int(rate), f"{scope}block_{number}/")
      total = skips if total == 0 else [left + right for left, right in zip(total, skips, strict=True)]
    return total

  def block(self, parts, dilation, scope):
    inputs = self.normalize(parts, f"{scope}normalization")
    signals, gates = (self.convolve(inputs, dilation, f"{scope}{name}") for name in ("filter", "gate"))
    gated = [np.tanh(signal) / (1 + np.exp(-gate)) for signal, gate in zip(signals, gates, strict=True)]
    skips = [np.tanh(part) for part in self.pointwise(gated, f"{scope}skip")]
    return [part + skip for part, skip in zip(parts, skips, strict=True)], skips

  def convolve(self, parts, dilation, name):
    kernel = self.values[f"{name}/kernel"]
    zeros = (len(kernel) - 1) * dilation
    before = zeros if self.chosen.causal_convolutions else zeros // 2
    results = []
    for part in parts:
      wide = np.pad(part, [(before, zeros - before), (0, 0)])
      taps = (wide[number * dilation :][: len(part)] @ tap for number, tap in enumerate(kernel))
      results.append(sum(taps) + self.values[f"{name}/bias"])
    return results

  def normalize(self, parts, name):
    mean, variance = (self.values[f"{name}/moving_{which}"] for which in ("mean", "variance"))
    if self.training:
      frames = np.concatenate(parts)
      mean, variance = frames.mean(axis=0), frames.var(axis=0)
    gamma, beta = self.values[f"{name}/gamma"], self.values[f"{name}/beta"]
    return [(part - mean) / np.sqrt(variance + 1e-3) * gamma + beta for part in parts]

  def pointwise(self, parts, name):
    return [part @ self.values[f"{name}/kernel"] + self.values[f"{name}/bias"] for part in parts]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
  "chosen",
  [
    # A block, a stack, and networks.
    SpeechNetSettings(stacks=1, stack_filters=4, stack_kernel_size=2, stack_dilation_rates="1"),
    SpeechNetSettings(stacks=1, stack_filters=4, stack_kernel_size=3, stack_dilation_rates="1,3"),
    SpeechNetSettings(stacks=2, stack_filters=3, stack_kernel_size=3, stack_dilation_rates="2,1,5"),
    SpeechNetSettings(
      stacks=2, stack_filters=3, stack_kernel_size=7, stack_dilation_rates="1,27", causal_convolutions=False
    ),
    SpeechNetSettings(
      stacks=1, stack_filters=3, stack_kernel_size=4, stack_dilation_rates="1,2", causal_convolutions=False
    ),
    SpeechNetSettings(stack_filters=4),
  ],
  ids=str,
)
def test_the_network_is_the_published_one(chosen, training):
  lengths = [17, 40, 9]
  parts = utterances(lengths)
  with Network(chosen, training) as network:
    logits, steps = network.infer(padded(parts, 45), lengths)
    expected = Published(chosen, network.values, training).network(parts)
  np.testing.assert_array_equal(steps, lengths)
  assert logits.shape == (3, 45, CLASSES)
  for result, wanted in zip(logits, expected, strict=True):
    np.testing.assert_allclose(result[: len(wanted)], wanted, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_without_masks_padding_is_read_like_frames(training):
  chosen, lengths = small(mask_padding=False), [17, 40]
  parts = [part[:, :, 0] for part in padded(utterances(lengths), 45, filler=-13.8)]
  with Network(chosen, training) as network:
    logits, steps = network.infer(np.stack(parts)[..., np.newaxis], lengths)
    expected = Published(chosen, network.values, training).network(parts)
  np.testing.assert_array_equal(steps, lengths)
  np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
  ("chosen", "num_classes", "count"), [(BEST, 43, 53_209_707), (SpeechNetSettings(), 29, 79_773)]
)
def test_the_published_networks_have_as_many_numbers(chosen, num_classes, count):
  with tf.Graph().as_default():
    frames = tf.compat.v1.placeholder(tf.float32, [None, None, 160, 1])
    networks.make_network(chosen, num_classes)(frames, tf.constant([3]), training=False)
    assert sum(variable.shape.num_elements() for variable in tf.compat.v1.trainable_variables()) == count


SETTINGS = st.builds(
  small,
  stacks=st.integers(1, 2),
  stack_kernel_size=st.integers(1, 4),
  stack_dilation_rates=st.sampled_from(["1", "3,1", "1,2,9"]),
  causal_convolutions=st.booleans(),
)


@settings(max_examples=8)
@given(chosen=SETTINGS, lengths=st.lists(st.integers(4, 20), min_size=1, max_size=4), more=st.integers(0, 30))
def test_padding_and_batch_mates_change_no_values_and_no_gradients(chosen, lengths, more):
  parts, num_frames = utterances(lengths), max(lengths) + more
  labels, label_lengths = (
    np.array([[1, 2]] * len(lengths)),
    np.array([1 + number % 2 for number in range(len(lengths))]),
  )
  with Network(chosen, dtype=tf.float64) as network:
    together, _ = network.infer(padded(parts, num_frames), lengths)
    whole = network.run_gradients(padded(parts, num_frames), lengths, labels, label_lengths)
    each = []
    for number, part in enumerate(parts):
      alone = padded([part], len(part)), [len(part)]
      np.testing.assert_allclose(together[number, : len(part)], network.infer(*alone)[0][0], atol=1e-9)
      each.append(network.run_gradients(*alone, labels[[number]], label_lengths[[number]]))
  for name, gradient in whole.items():
    expected = sum(single[name] for single in each)
    # The loss is computed in single precision.
    assert np.linalg.norm(gradient - expected) <= 1e-4 * np.linalg.norm(expected), name


@settings(max_examples=5)
@given(chosen=SETTINGS, lengths=st.lists(st.integers(4, 20), min_size=2, max_size=4), more=st.integers(1, 30))
def test_in_training_padding_changes_nothing_either(chosen, lengths, more):
  parts, said = utterances(lengths), (np.array([[1, 2]] * len(lengths)), np.array([2] * len(lengths)))
  with Network(chosen, training=True, dtype=tf.float64) as network:
    short, long = (
      (network.infer(batch, lengths)[0], network.run_gradients(batch, lengths, *said))
      for batch in (padded(parts, max(lengths)), padded(parts, max(lengths) + more))
    )
  for number, length in enumerate(lengths):
    np.testing.assert_allclose(short[0][number, :length], long[0][number, :length], atol=1e-9)
  for name, gradient in short[1].items():
    np.testing.assert_allclose(gradient, long[1][name], rtol=1e-4, atol=1e-6, err_msg=name)


# Whatever these add, the batch's own mean takes away again, in training.
TAKEN_AWAY = {"input_normalization/beta", "expand/bias"}


@pytest.mark.parametrize("training", [False, True])
def test_every_variable_gets_a_gradient(training):
  with Network(SpeechNetSettings(stack_filters=4), training) as network:
    gradients = network.run_gradients(padded(utterances([30, 25]), 30), [30, 25], [[1, 2], [3, 4]], [2, 2])
    assert {variable.dtype.base_dtype for variable in network.variables} == {tf.float32}
  for name, gradient in gradients.items():
    assert np.isfinite(gradient).all(), name
    assert (np.linalg.norm(gradient) > 1e-2) == (not training or name not in TAKEN_AWAY), name


@pytest.mark.parametrize("training", [False, True])
def test_bfloat16_comes_close_with_logits_in_single_precision(training):
  lengths, chosen = [30, 25, 4], small(stack_filters=16)
  parts, results = utterances(lengths), []
  for compute_dtype in (None, "bfloat16"):
    with Network(chosen, training, compute_dtype=compute_dtype) as network:
      batch = padded(parts, 40), lengths
      gradients = network.run_gradients(*batch, [[1, 2]] * 3, [2] * 3)
      results.append({"logits": network.infer(*batch)[0], **gradients})
      assert network.logits.dtype == tf.float32
      assert {variable.dtype.base_dtype for variable in network.variables} == {tf.float32}
  exact, close = results
  errors = {name: np.linalg.norm(exact[name] - close[name]) / np.linalg.norm(exact[name]) for name in exact}
  assert all(error < 0.1 or (training and name in TAKEN_AWAY) for name, error in errors.items()), errors
  # Ten units in the last of 8 bits.
  assert 0 < errors["logits"] < 10 * 2**-8


@pytest.mark.parametrize(("mask_padding", "moved"), [(True, 1.0), (False, 0.01)])
def test_moving_statistics_begin_as_plain_averages_with_masks_alone(mask_padding, moved):
  parts = utterances([20, 20])
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.train.get_or_create_global_step()
    network = networks.make_network(small(mask_padding=mask_padding), CLASSES)
    network(tf.constant(padded(parts, 20), tf.float32), tf.constant([20, 20]), training=True)
    session.run(tf.compat.v1.global_variables_initializer())
    session.run(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS))
    (mean,) = (each for each in tf.compat.v1.global_variables() if each.op.name == "input_normalization/moving_mean")
    np.testing.assert_allclose(session.run(mean), moved * np.concatenate(parts).mean(axis=0), rtol=1e-5)


def test_a_step_is_a_frame():
  assert speech_net_model.compute_output_length(17, SpeechNetSettings()) == 17
  assert speech_net_model.count_frames_per_step(SpeechNetSettings()) == 1


def test_kernels_for_recurrent_layers_are_refused():
  with pytest.raises(UserError, match="--rnn_kernel=cudnn means nothing with --network=speech_net.*; leave it out"):
    networks.make_network(SpeechNetSettings(), 29, rnn_kernel="cudnn")


OPTIONS = (
  "--network=speech_net",
  "--stack_filters=16",
  "--stack_dilation_rates=1,3,9",
  "--nocausal_convolutions",
  "--batch_size=8",
  "--num_gpus=0",
)


def run_to_the_end(folder, program: str, *options: str) -> str:
  """Run a command that succeeds and return what it prints."""
  command = [sys.executable, os.path.join(runs.ROOT, program), *options]
  done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_it_is_trained_evaluated_exported_resumed_and_transcribes(tones_dir, tmp_path):
  paths = [f"--train_data_dir={tones_dir}/train.tsv", f"--eval_data_dir={tones_dir}/dev.tsv", "--model_dir=model"]
  training = [*paths, *OPTIONS, "--learning_rate=0.01", "--epochs_between_evals=5"]
  shown = run_to_the_end(tmp_path, "deep_speech.py", *training, "--train_epochs=10")
  assert "epoch 10/10" in shown
  said = run_to_the_end(tmp_path, "deep_speech.py", "--mode=evaluate", *paths[1:], "--num_gpus=0")
  last = json.loads((tmp_path / "model" / "eval.jsonl").read_text().splitlines()[-1])
  assert f"WER {last['WER']:.4f}  CER {last['CER']:.4f}" in said
  run_to_the_end(tmp_path, "deep_speech.py", "--mode=export", "--model_dir=model", "--export_dir=exports")
  recordings = [entry.path for entry in manifest.read_manifest(f"{tones_dir}/train.tsv")][:8]
  texts = [
    [
      line.split("\t")[1]
      for line in run_to_the_end(tmp_path, "transcribe.py", f"--model={model}", *recordings).splitlines()
    ]
    for model in ("model", "exports")
  ]
  assert texts[0] == texts[1]
  assert len(set(texts[0])) > 3
  assert "epoch 11/11" in run_to_the_end(tmp_path, "deep_speech.py", *training, "--train_epochs=11")
  written, _ = inference.read_description(str(tmp_path / "model"))
  assert written.network == SpeechNetSettings(stack_filters=16, stack_dilation_rates="1,3,9", causal_convolutions=False)
