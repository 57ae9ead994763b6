"""The training graph of a network whose numbers the original code produced, with its variables set to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import deep_speech
import networks
from official_utils.lazy import tf
from official_utils.misc import distribution_utils
from settings import NetworkSettings
from training.optimizer import Optimizer


class FixtureGraph:
  """Inference, training, loss, gradients and the training step in one graph and session.

  Attributes:
    numbers: those of the original.
    names: the variables' names.
    trainable: the names of the trained ones.
    variables: all variables by name.
    session: holds them.
    outputs: the logits in the modes "infer" and "train".
    steps, loss_each, loss, gradients, train_op: tensors of the mode "train" and its training step.
  """

  def __init__(
    self,
    numbers: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    network: NetworkSettings,
    rnn_kernel: str = "native",
    devices: Sequence[str] = ("/cpu:0",),
  ):
    """Build the graph.

    Args:
      numbers: of one of the models of tests/fixtures.
      meta: what its `meta_json` says.
      network: the settings that make ours that network.
      rnn_kernel: as for `networks.make_network`.
      devices: where it runs.
    """
    self.numbers, self.names, self.trainable = numbers, meta["variable_order"], meta["trainable"]
    num_classes = meta["config"]["num_classes"]
    with tf.Graph().as_default():
      self.features = tf.compat.v1.placeholder(tf.float32, [None, None, 161, 1])
      lengths = [tf.compat.v1.placeholder(tf.int32, [None, 1]) for _ in range(2)]
      self.input_length, self.label_length = lengths
      self.labels = tf.compat.v1.placeholder(tf.int32, [None, None])
      self.outputs = {}
      for mode in ("infer", "train"):
        with tf.compat.v1.variable_scope("", reuse=mode == "train"):
          forward = networks.make_network(network, num_classes, rnn_kernel=rnn_kernel, devices=devices)
          self.outputs[mode], _ = forward(self.features, tf.squeeze(self.input_length, 1), mode == "train")
      logits = self.outputs["train"]
      num_frames, num_steps = tf.shape(self.features)[1], tf.shape(logits)[1]
      self.steps = deep_speech.compute_length_after_conv(num_frames, num_steps, self.input_length)
      self.loss_each = deep_speech.ctc_loss(self.label_length, self.steps, self.labels, logits)
      self.loss = tf.reduce_mean(self.loss_each)
      self.variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
      self.gradients = tf.gradients(self.loss, [self.variables[name] for name in self.trainable])
      self.train_op = Optimizer(meta["config"]["learning_rate"]).minimize(self.loss)
      self.session = tf.compat.v1.Session(config=distribution_utils.session_config(devices))
      self.session.run(tf.compat.v1.global_variables_initializer())
    self.reset()

  def reset(self) -> None:
    """Set the variables to the original's initial values."""
    with self.session.graph.as_default():
      for name in self.names:
        self.variables[name].load(self.numbers[f"var/{name}"], self.session)

  def run(self, batch: str, fetches: Any) -> Any:
    """Compute tensors on one of the original's batches, "equal" or "padded"."""
    keys = ("in_features", "in_input_length", "in_label_length", "in_labels")
    tensors = (self.features, self.input_length, self.label_length, self.labels)
    feeds = {tensor: self.numbers[f"{batch}/{key}"] for tensor, key in zip(tensors, keys, strict=True)}
    return self.session.run(fetches, feeds)

  def train_three_steps(self) -> list[float]:
    """Train from the initial values; return the loss before each of three steps and after them."""
    self.reset()
    losses = [self.run("padded", [self.loss, self.train_op])[0] for _ in range(3)]
    return [*losses, self.run("padded", self.loss)]
