"""Shows that padding changes nothing: an utterance alone equals the same utterance in any padded batch."""

import fixture_files
import numpy as np
import pytest
import small_network
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import decoder
import deep_speech_model
import networks
from layers import convolution, ctc
from official_utils.lazy import tf
from settings import DeepSpeech2Settings
from training.optimizer import Optimizer

LABELS = " abcdefghijklmnopqrstuvwxyz'-"
BINS = 161
CONFIGURATIONS = [
  (rnn_type, is_bidirectional, layout)
  for rnn_type in ("gru", "lstm", "rnn", "gru_reset_after")
  for is_bidirectional in (True, False)
  for layout in ("official", "paper")
]


def far_values(variables) -> dict:
  """Choose a value for each variable that is far from where it starts, the moving statistics and biases above all.

  Where the original's fixtures have a variable of this name and shape, its value is theirs.
  """
  numbers = fixture_files.load_arrays("model_gru_l2_bias")
  generator = np.random.default_rng(7)
  values = {}
  for variable in variables:
    name, shape = variable.op.name, variable.shape.as_list()
    if f"var/{name}" in numbers and list(numbers[f"var/{name}"].shape) == shape:
      values[name] = numbers[f"var/{name}"]
    elif name.endswith(("gamma", "moving_variance")):
      values[name] = generator.uniform(0.5, 2, shape)
    elif name.endswith("kernel"):
      values[name] = generator.normal(0, 1.5 / np.sqrt(np.prod(shape[:-1])), shape)
    else:
      values[name] = generator.normal(0, 0.5, shape)
  return values


class Network:
  """A two-layer network with frozen statistics."""

  def __init__(self, rnn_type: str, is_bidirectional: bool, conv_layout: str):
    chosen = small_network.network(
      rnn_type=rnn_type,
      rnn_hidden_size=16,
      rnn_hidden_layers=2,
      is_bidirectional=is_bidirectional,
      conv_layout=conv_layout,
    )
    with tf.Graph().as_default():
      self.features = tf.compat.v1.placeholder(tf.float32, [None, None, BINS, 1])
      self.frames = tf.compat.v1.placeholder(tf.int32, [None])
      self.labels = tf.compat.v1.placeholder(tf.int32, [None, None])
      self.label_lengths = tf.compat.v1.placeholder(tf.int32, [None])
      model = networks.make_network(chosen, len(LABELS))
      self.logits, self.lengths = model(self.features, self.frames, training=False)
      losses = ctc.ctc_losses(self.logits, self.lengths, self.labels, self.label_lengths)
      variables = tf.compat.v1.trainable_variables()
      self.names = [variable.op.name for variable in variables]
      self.gradients = tf.gradients(tf.reduce_sum(losses), variables)
      self.session = tf.compat.v1.Session()
      everything = tf.compat.v1.global_variables()
      values = far_values(everything)
      for variable in everything:
        variable.load(values[variable.op.name], self.session)

  def infer(self, features, frames):
    """Return logits [batch, time, classes] and lengths."""
    return self.session.run([self.logits, self.lengths], {self.features: features, self.frames: frames})

  def run_gradients(self, features, frames, labels, label_lengths):
    feeds = {self.features: features, self.frames: frames, self.labels: labels, self.label_lengths: label_lengths}
    return self.session.run(self.gradients, feeds)


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=lambda key: f"{key[0]}-{'bi' if key[1] else 'uni'}-{key[2]}")
def network(request):
  return Network(*request.param)


def utterances(lengths):
  generator = np.random.default_rng(5)
  return [generator.normal(0, 1, [length, BINS, 1]).astype(np.float32) for length in lengths]


def batch(parts, num_frames, filler):
  """Stack utterances into [batch, num_frames, bins, 1] with a filler in the padding."""
  features = np.full([len(parts), num_frames, BINS, 1], filler, np.float32)
  for row, part in zip(features, parts, strict=True):
    row[: len(part)] = part
  return features


@pytest.mark.parametrize("filler", [0.0, 1e4, np.nan])
def test_padding_and_batch_mates_change_nothing(network, filler):
  lengths = [24, 25, 26, 27, 1]  # Every residue modulo 4, and a single frame.
  parts = utterances(lengths)
  alone = [network.infer(part[np.newaxis], [len(part)]) for part in parts]
  loud = [40 * part for part in utterances([31, 260])]
  for mates, num_frames in [([], 27), ([], 28), (loud[:1], 31), (loud, 260), (loud, 270)]:
    together = [*parts, *mates]
    logits, steps = network.infer(batch(together, num_frames, filler), [len(part) for part in together])
    for number, (expected, length) in enumerate(alone):
      assert steps[number] == length[0] == expected.shape[1]
      np.testing.assert_allclose(logits[number, : steps[number]], expected[0], rtol=0, atol=1e-4)
    greedy = decoder.GreedyDecoder(LABELS)
    texts = [hypothesis.text for hypothesis in greedy.decode(logits, steps)[: len(parts)]]
    assert texts == [greedy.decode(expected, length)[0].text for expected, length in alone]


def test_gradient_of_a_padded_batch_is_the_sum_of_its_utterances(network):
  lengths = [60, 43, 29, 78]
  parts = utterances(lengths)
  generator = np.random.default_rng(3)
  labels, label_lengths = generator.integers(0, 28, [4, 5]), np.array([5, 2, 3, 4])
  together = network.run_gradients(batch(parts, 400, np.nan), lengths, labels, label_lengths)
  each = [
    network.run_gradients(part[np.newaxis], [len(part)], labels[[number], :count], [count])
    for number, (part, count) in enumerate(zip(parts, label_lengths, strict=True))
  ]
  for name, whole, *single in zip(network.names, together, *each, strict=True):
    expected = sum(single)
    assert np.linalg.norm(expected) > 0, name
    assert np.linalg.norm(whole - expected) <= 1e-4 * np.linalg.norm(expected), name


def test_unmasked_network_lets_padding_leak():
  """The original's fault, kept behind --mask_padding=false: guards that the tests above can fail at all."""
  settings = small_network.of_original(fixture_files.load_model("gru_l2_bias")[1]["config"])
  part = utterances([26])[0]
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    features = tf.compat.v1.placeholder(tf.float32, [None, None, BINS, 1])
    network = networks.make_network(settings, 29)
    logits, _ = network(features, tf.constant([26]), training=False)
    variables = tf.compat.v1.global_variables()
    values = far_values(variables)
    for variable in variables:
      variable.load(values[variable.op.name], session)
    alone = session.run(logits, {features: part[np.newaxis]})
    padded = session.run(logits, {features: batch([part], 60, 0.0)})
  assert np.abs(padded[:, : alone.shape[1]] - alone).max() > 1e-2


def train_losses(compute_dtype, num_steps: int) -> list[float]:
  """Train a small network on one batch; return the loss of each step."""
  settings = small_network.network(rnn_hidden_size=16, rnn_hidden_layers=2)
  lengths = [60, 43, 29, 78]
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    model = networks.make_network(settings, len(LABELS), compute_dtype=compute_dtype)
    features = tf.constant(batch(utterances(lengths), 80, np.nan))
    logits, steps = model(features, tf.constant(lengths), training=True)
    labels = tf.constant(np.random.default_rng(3).integers(0, 28, [4, 5]), tf.int32)
    loss = tf.reduce_mean(ctc.ctc_losses(logits, steps, labels, tf.constant([5, 2, 3, 4])))
    variables = tf.compat.v1.trainable_variables()
    assert {variable.dtype.base_dtype for variable in variables} == {logits.dtype} == {tf.float32}
    train_op = Optimizer(1e-3).minimize(loss)
    session.run(tf.compat.v1.global_variables_initializer())
    values = far_values(variables)
    for variable in variables:
      variable.load(values[variable.op.name], session)
    return [session.run([loss, train_op])[0] for _ in range(num_steps)]


# In float16, which takes a CPU ten seconds a step, the layers have their own tests.
def test_training_in_half_precision_descends_beside_float32():
  exact_losses, losses = train_losses(None, 12), train_losses("bfloat16", 12)
  assert losses == pytest.approx(exact_losses, rel=10 * 2**-8)
  assert losses != exact_losses
  assert losses[-1] < 0.7 * losses[0]
  assert exact_losses[-1] < 0.7 * exact_losses[0]


@pytest.mark.parametrize("training", [False, True])
def test_in_bfloat16_padding_changes_nothing_and_logits_are_float32(training):
  settings = networks.with_masks(small_network.of_original(fixture_files.load_model("gru_l2_bias")[1]["config"]))
  lengths = [24, 30, 1, 27]
  parts = utterances(lengths)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    features = tf.compat.v1.placeholder(tf.float32, [None, None, BINS, 1])
    model = networks.make_network(settings, len(LABELS), compute_dtype="bfloat16")
    logits, steps = model(features, tf.constant(lengths), training)
    session.run(tf.compat.v1.global_variables_initializer())
    exact, steps = session.run([logits, steps], {features: batch(parts, 30, 0.0)})
    padded = session.run(logits, {features: batch(parts, 200, np.nan)})
  assert exact.dtype == np.float32
  for left, right, length in zip(exact, padded, steps, strict=True):
    # Sums in another order may round the other way, by a unit in the last of 8 bits.
    np.testing.assert_allclose(left[:length], right[:length], atol=np.abs(exact).max() * 2**-6)


def test_first_weights_depend_on_seed_and_name_alone():
  def weights(seed: int, num_operations: int):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      tf.compat.v1.set_random_seed(seed)
      for _ in range(num_operations):
        tf.constant(0)
      model = networks.make_network(small_network.network(rnn_hidden_size=4, rnn_hidden_layers=2), 5)
      model(tf.zeros([1, 8, 161, 1]), tf.constant([8]), training=True)
      session.run(tf.compat.v1.global_variables_initializer())
      return session.run({variable.op.name: variable for variable in tf.compat.v1.trainable_variables()})

  first, again, other = weights(1, 0), weights(1, 7), weights(2, 0)
  for name, value in first.items():
    np.testing.assert_array_equal(value, again[name], err_msg=name)
    assert name.endswith(("bias", "beta", "gamma")) == np.array_equal(value, other[name])
  directions = [f"bidirectional_rnn/{side}/rnn_{side}_1/gates/kernel" for side in ("fw", "bw")]
  assert not np.array_equal(*(first[name] for name in directions))


OPTIONS = st.fixed_dictionaries(
  {
    "rnn_sizes": st.sampled_from(["4", "5,4", "4,4,3"]),
    "rnn_type": st.sampled_from(["lstm", "rnn", "gru", "gru_reset_after"]),
    "is_bidirectional": st.booleans(),
    "conv_layout": st.sampled_from(["official", "paper"]),
    "time_subsampling": st.sampled_from([0, 1, 2, 4]),
  },
  optional={
    "conv_padding": st.just("same"),
    "conv_bias": st.just(True),
    "conv_activation": st.just("linear"),
    "normalization": st.just("layer"),
    "norm_momentum": st.just(0.1),
    "rnn_merge": st.just("sum"),
    "rnn_residual": st.just(True),
    "rnn_activation": st.just("relu"),
    "rnn_gate_activation": st.just("hard_sigmoid"),
    "rnn_init": st.just("orthogonal"),
    "row_conv_width": st.integers(1, 4),
    "fc_units": st.just(6),
    "dropout": st.just(0.3),
  },
)


class AnyNetwork:
  """A small network of any settings in double precision, its logits, and the gradients of their weighted sum.

  Its variables have their first values, but no bias is zero.
  """

  def __init__(self, chosen: dict, training: bool, has_step: bool = False):
    chosen = {
      name: value for name, value in chosen.items() if name != "row_conv_width" or not chosen["is_bidirectional"]
    }
    with tf.Graph().as_default():
      tf.compat.v1.set_random_seed(3)
      self.step = tf.compat.v1.train.get_or_create_global_step() if has_step else None
      self.features = tf.compat.v1.placeholder(tf.float64, [None, None, 20, 1])
      self.frames = tf.compat.v1.placeholder(tf.int32, [None])
      self.weights = tf.compat.v1.placeholder(tf.float64, [None, None, 5])
      network = networks.make_network(DeepSpeech2Settings(**chosen), 5)
      self.logits, self.steps = network(self.features, self.frames, training)
      variables = tf.compat.v1.trainable_variables()
      self.names = [variable.op.name for variable in variables]
      self.gradients = tf.gradients(self.logits, variables, self.weights)
      self.session = tf.compat.v1.Session()
      self.session.run(tf.compat.v1.global_variables_initializer())
      for variable in variables:
        if variable.op.name.endswith(("bias", "beta")):
          variable.load(np.random.default_rng(1).normal(0, 0.3, variable.shape.as_list()), self.session)

  def run(self, parts, num_frames, weights):
    """Return each utterance's logits, and the gradients of their sum of products with weights [utterance][steps, 5]."""
    features = np.full([len(parts), num_frames, 20, 1], np.nan)
    for row, part in zip(features, parts, strict=True):
      row[: len(part)] = part
    feeds = {self.features: features, self.frames: [len(part) for part in parts]}
    logits, steps = self.session.run([self.logits, self.steps], feeds)
    factors = np.zeros(logits.shape)
    for row, each, length in zip(factors, weights, steps, strict=True):
      row[:length] = each[:length]
    gradients = self.session.run(self.gradients, feeds | {self.weights: factors})
    return [row[:length] for row, length in zip(logits, steps, strict=True)], gradients


# Each example makes a graph, so that a smaller one that fails too is not looked for.
@settings(max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(chosen=OPTIONS, training=st.booleans(), lengths=st.lists(st.integers(1, 23), min_size=2, max_size=4))
def test_padding_changes_nothing_with_any_options(chosen, training, lengths):
  """In training too, where the utterances of a batch share statistics and dropout has its draws."""
  generator = np.random.default_rng(4)
  parts = [generator.normal(size=[length, 20, 1]) for length in lengths]
  weights = [generator.normal(size=[length, 5]) for length in lengths]
  network = AnyNetwork(chosen, training)
  logits, gradients = network.run(parts, max(lengths), weights)
  padded, padded_gradients = network.run(parts, max(lengths) + 14, weights)
  found = [(padded, padded_gradients)]
  if not training:
    alone = [network.run([part], len(part), [each]) for part, each in zip(parts, weights, strict=True)]
    rows, sums = [each for (each,), _ in alone], [gradients for _, gradients in alone]
    found.append((rows, [sum(each) for each in zip(*sums, strict=True)]))
  for other, other_gradients in found:
    for row, expected in zip(other, logits, strict=True):
      np.testing.assert_allclose(row, expected, atol=1e-9)
    for name, gradient, expected in zip(network.names, other_gradients, gradients, strict=True):
      np.testing.assert_allclose(gradient, expected, atol=1e-8 * max(1, np.abs(expected).max()), err_msg=name)


ONE_BY_ONE = {
  "row_conv_width": {"row_conv_width": 3, "is_bidirectional": False},
  "layer": {"normalization": "layer"},
  "linear": {"conv_activation": "linear", "conv_bias": True, "conv_padding": "same", "norm_momentum": 0.1},
  "unmasked": {"conv_padding": "same", "mask_padding": False, "normalization": "layer"},
  "joined": {"rnn_merge": "sum", "rnn_residual": True, "rnn_sizes": "8,8,4"},
  "cells": {"rnn_activation": "relu", "rnn_gate_activation": "hard_sigmoid", "rnn_init": "orthogonal"},
  "dense": {"fc_units": 12, "dropout": 0.3, "time_subsampling": 1},
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_every_option_works_in_bfloat16(name):
  chosen = {"rnn_sizes": "8,8", **ONE_BY_ONE[name]}
  lengths = [24, 30, 1, 27]
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.set_random_seed(5)
    features, fetches = tf.constant(batch(utterances(lengths), 30, 0.0)), []
    for compute_dtype in (None, "bfloat16"):
      with tf.compat.v1.variable_scope("", reuse=tf.compat.v1.AUTO_REUSE):
        model = networks.make_network(DeepSpeech2Settings(**chosen), 5, compute_dtype=compute_dtype)
        logits, _ = model(features, tf.constant(lengths), training=True)
      variables = tf.compat.v1.trainable_variables()
      factors = tf.random.stateless_normal(tf.shape(logits), [1, 2])
      fetches.append([logits, *tf.gradients(logits, variables, factors)])
    assert {each.dtype.base_dtype for each in (*variables, *fetches[1])} == {tf.float32}
    session.run(tf.compat.v1.global_variables_initializer())
    exact, close = session.run(fetches)
  # All layers together are off by some units in the last place; all gradients together, as some are zero by themselves.
  for left, right, units in ((exact[:1], close[:1], 10), (exact[1:], close[1:], 40)):
    left, right = (np.concatenate([each.ravel() for each in arrays]) for arrays in (left, right))
    assert 0 < np.linalg.norm(right - left) <= units * 2**-8 * np.linalg.norm(left)


def test_the_first_official_network_has_as_many_numbers_as_it_had():
  chosen = DeepSpeech2Settings(
    rnn_hidden_layers=3,
    rnn_hidden_size=256,
    rnn_merge="sum",
    conv_bias=True,
    conv_activation="linear",
    conv_padding="same",
  )
  with tf.Graph().as_default():
    logits, _ = networks.make_network(chosen, 29)(tf.zeros([1, 8, 257, 1]), tf.constant([8]), training=True)
    assert logits.shape[2] == 29
    assert sum(variable.shape.num_elements() for variable in tf.compat.v1.trainable_variables()) == 8571453


def test_sizes_and_names_of_what_options_add():
  shapes = AnyNetwork(
    {"rnn_sizes": "4,3", "is_bidirectional": False, "row_conv_width": 2, "fc_units": 6, "conv_bias": True}, True
  )
  with shapes.session.graph.as_default():
    found = {variable.op.name: variable.shape.as_list() for variable in tf.compat.v1.trainable_variables()}
  expected = {
    "cnn_1/bias": [32],
    "rnn/rnn_fw_1/gates/kernel": [10 * 32 + 4, 8],
    "rnn/rnn_fw_2/gates/kernel": [4 + 3, 6],
    "row_convolution/weights": [2, 3],
    "batch_normalization_3/gamma": [3],
    "fc/kernel": [3, 6],
    "fc/bias": [6],
    "dense/kernel": [6, 5],
  }
  assert {name: found[name] for name in expected} == expected


def test_a_residual_layer_that_adds_nothing_hands_its_input_on():
  spans = []
  for is_residual in (False, True):
    network = AnyNetwork({"rnn_sizes": "4,4", "rnn_residual": is_residual}, False)
    with network.session.graph.as_default():
      for variable in tf.compat.v1.trainable_variables():
        # The first layer's input has another width, the second's the same.
        if "_rnn/" in variable.op.name and "_2/" in variable.op.name:
          variable.load(np.zeros(variable.shape.as_list()), network.session)
    (logits,), _ = network.run([np.random.default_rng(1).normal(size=[20, 20, 1])], 20, [np.zeros([5, 5])])
    spans.append(np.ptp(logits, axis=0).max())
  assert spans[0] < 1e-12 < 1e-3 < spans[1]


def test_dropout_is_for_training_and_drawn_anew_at_each_step():
  def logits(training, *steps):
    chosen = {"rnn_sizes": "4", "is_bidirectional": True, "dropout": 0.5, "fc_units": 16, "normalization": "layer"}
    network, part = AnyNetwork(chosen, training, has_step=True), np.random.default_rng(1).normal(size=[20, 20, 1])
    with network.session.graph.as_default():
      for number in steps:
        network.step.load(number, network.session)
        yield network.run([part], 20, [np.zeros([5, 5])])[0][0]

  first, other, again = logits(True, 1, 2, 1)
  np.testing.assert_array_equal(first, again)
  np.testing.assert_array_equal(first, next(logits(True, 1)))
  assert np.abs(first - other).max() > 1e-3
  np.testing.assert_array_equal(*logits(False, 1, 2))


def test_without_masks_same_zeros_go_by_the_padded_batch():
  """Of a batch with an even number of frames each step reads a frame further than of one with an odd number."""

  def first_convolution(num_frames, mask_padding):
    chosen = DeepSpeech2Settings(rnn_sizes="2", conv_padding="same", mask_padding=mask_padding)
    spec = deep_speech_model.list_convolutions(chosen)[0]
    return convolution.count_zeros(num_frames, spec, 0), convolution.count_zeros(161, spec, 1)

  assert first_convolution(101, False) == ([20, 20], [5, 5])
  assert first_convolution(100, False) == ([19, 20], [5, 5])
  assert first_convolution(100, True) == first_convolution(101, True) == ([20, 20], [5, 5])
