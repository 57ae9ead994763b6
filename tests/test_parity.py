"""Compares the network, its loss, its gradients and its training steps with numbers that the original code produced.

With mask_padding off, on batches of equal lengths and on padded ones. The `patched` files come from an original that had to
be repaired to run at all: its plain RNN cell named an abstract class, and one direction alone handed on a pair.
"""

import fixture_files
import numpy as np
import pytest
import small_network

import deep_speech
import networks
from official_utils.lazy import tf
from training.optimizer import Optimizer

LEARNING_RATE = 5e-4


class Graph:
  """The training graph of one fixture file, with its variables set to the file's."""

  def __init__(self, name: str):
    self.numbers, meta = fixture_files.load_model(name)
    self.names, self.trainable, config = meta["variable_order"], meta["trainable"], meta["config"]
    assert config["learning_rate"] == LEARNING_RATE
    network = small_network.of_original(config)
    with tf.Graph().as_default():
      self.features = tf.compat.v1.placeholder(tf.float32, [None, None, 161, 1])
      lengths = [tf.compat.v1.placeholder(tf.int32, [None, 1]) for _ in range(2)]
      self.input_length, self.label_length = lengths
      self.labels = tf.compat.v1.placeholder(tf.int32, [None, None])
      self.losses, self.outputs = {}, {}
      for mode in ("infer", "train"):
        with tf.compat.v1.variable_scope("", reuse=mode == "train"):
          self._add_mode(mode, networks.make_network(network, config["num_classes"]))
      self.variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
      variables = [self.variables[name] for name in self.trainable]
      self.gradients = tf.gradients(self.loss, variables)
      self.train_op = Optimizer(LEARNING_RATE).minimize(self.loss)
      self.session = tf.compat.v1.Session()
      self.session.run(tf.compat.v1.global_variables_initializer())
    self.reset()

  def reset(self):
    with self.session.graph.as_default():
      for name in self.names:
        self.variables[name].load(self.numbers[f"var/{name}"], self.session)

  def _add_mode(self, mode: str, network):
    logits, _ = network(self.features, tf.squeeze(self.input_length, 1), mode == "train")
    self.outputs[mode] = logits
    if mode == "train":
      num_steps = tf.shape(logits)[1]
      self.steps = deep_speech.compute_length_after_conv(tf.shape(self.features)[1], num_steps, self.input_length)
      self.loss_each = deep_speech.ctc_loss(self.label_length, self.steps, self.labels, self.outputs["train"])
      self.loss = tf.reduce_mean(self.loss_each)

  def run(self, batch: str, fetches):
    keys = ("in_features", "in_input_length", "in_label_length", "in_labels")
    tensors = (self.features, self.input_length, self.label_length, self.labels)
    feeds = {tensor: self.numbers[f"{batch}/{key}"] for tensor, key in zip(tensors, keys, strict=True)}
    return self.session.run(fetches, feeds)


@pytest.fixture(scope="module", params=fixture_files.MODELS)
def graph(request):
  return Graph(request.param)


def test_all_configurations_are_there():
  assert len(fixture_files.MODELS) == 10


def test_variables_have_the_original_names_shapes_and_kinds(graph):
  ours = {name for name in graph.variables if "Adam" not in name and "power" not in name and name != "global_step"}
  assert ours == set(graph.names)
  with graph.session.graph.as_default():
    assert {variable.op.name for variable in tf.compat.v1.trainable_variables()} == set(graph.trainable)
  for name in graph.names:
    assert graph.variables[name].shape.as_list() == list(graph.numbers[f"var/{name}"].shape)


@pytest.mark.parametrize("batch", ["equal", "padded"])
def test_forward(graph, batch):
  fetches = [graph.outputs["infer"], graph.outputs["train"], graph.steps, graph.loss_each, graph.loss]
  infer, train, steps, loss_each, loss = graph.run(batch, fetches)
  np.testing.assert_allclose(infer, graph.numbers[f"{batch}/infer_logits"], rtol=0, atol=1e-5)
  np.testing.assert_array_equal(infer.argmax(2), graph.numbers[f"{batch}/infer_classes"])
  np.testing.assert_allclose(train, graph.numbers[f"{batch}/train_logits"], rtol=0, atol=5e-4)
  np.testing.assert_array_equal(steps, graph.numbers[f"{batch}/ctc_input_length"])
  np.testing.assert_allclose(loss_each, graph.numbers[f"{batch}/ctc_loss_each"], rtol=2e-5)
  np.testing.assert_allclose(loss, graph.numbers[f"{batch}/loss"], rtol=1e-5)


@pytest.mark.parametrize(("batch", "tolerance"), [("equal", 1e-3), ("padded", 2e-2)])
def test_gradients(graph, batch, tolerance):
  for name, gradient in zip(graph.trainable, graph.run(batch, graph.gradients), strict=True):
    expected, ours = fixture_files.sampled(graph.numbers, f"{batch}/grad", name, gradient)
    assert np.linalg.norm(ours - expected) <= tolerance * np.linalg.norm(expected), name
    norm_key = f"{batch}/grad_norm/{name}"
    if norm_key in graph.numbers:
      np.testing.assert_allclose(np.linalg.norm(gradient), graph.numbers[norm_key][0], rtol=tolerance)


def test_three_adam_steps(graph):
  """Runs last in this module: it moves the variables."""
  graph.reset()
  losses = [graph.run("padded", [graph.loss, graph.train_op])[0] for _ in range(3)]
  losses.append(graph.run("padded", graph.loss))
  np.testing.assert_allclose(losses, graph.numbers["steps_loss"], rtol=1e-3)
  values = graph.session.run({name: graph.variables[name] for name in graph.names})
  differences = []
  for name in graph.names:
    expected, ours = fixture_files.sampled(graph.numbers, "after3", name, values[name])
    if name in graph.trainable:
      differences.append(np.abs(ours - expected).ravel())
    else:
      np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4, err_msg=name)
  differences = np.concatenate(differences)
  assert np.mean(differences <= 1e-4) >= 0.995
  assert differences.max() <= 6 * LEARNING_RATE
