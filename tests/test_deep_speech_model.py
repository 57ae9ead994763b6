"""Shows that padding changes nothing: an utterance alone equals the same utterance in any padded batch."""

import fixture_files
import numpy as np
import pytest
import small_network

import decoder
import networks
from layers import ctc
from official_utils.lazy import tf
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
    settings = small_network.network(
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
      model = networks.make_network(settings, len(LABELS))
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
