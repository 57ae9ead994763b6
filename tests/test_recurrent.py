"""Holds the recurrent layers against the plain per-step form: values and gradients, in double precision."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import original_form
from layers import convolution, recurrent
from official_utils.lazy import tf


class Pair:
  """One layer in both forms over the same variables, with the gradients of a weighted sum of the outputs."""

  def __init__(self, rnn_type: str, is_bidirectional: bool, depth: int, hidden: int, masked: bool):
    with tf.Graph().as_default():
      self.inputs = tf.compat.v1.placeholder(tf.float64, [None, None, depth])
      self.lengths = tf.compat.v1.placeholder(tf.int32, [None])
      self.factors = tf.compat.v1.placeholder(tf.float64, [None, None, None])
      mask = None
      if masked:
        mask = convolution.time_major_mask(self.lengths, tf.shape(self.inputs)[0], tf.float64)
      ours, self.lengths_out = recurrent.rnn_layer(
        self.inputs, self.lengths, rnn_type, hidden, 1, is_bidirectional, mask
      )
      variables = tf.compat.v1.trainable_variables()
      plain = self._plain(rnn_type, is_bidirectional, masked, variables)
      self.fetches = [
        [outputs, *tf.gradients(tf.reduce_sum(outputs * self.factors), [self.inputs, *variables])]
        for outputs in (ours, plain)
      ]
      self.variables = variables
      self.session = tf.compat.v1.Session()
      self.session.run(tf.compat.v1.global_variables_initializer())

  def _plain(self, rnn_type, is_bidirectional, masked, variables):
    outputs = []
    for side in ("fw", "bw") if is_bidirectional else ("fw",):
      scope = re.compile(f".*rnn_{side}_1/(.*)")
      kernels = {match[1]: v for v in variables if (match := scope.match(v.op.name))}
      lengths = self.lengths if masked else None
      outputs.append(original_form.run_direction(rnn_type, self.inputs, lengths, kernels, side == "bw"))
    return tf.concat(outputs, axis=2)

  def compare(self, lengths: list[int], extra_steps: int, seed: int):
    generator = np.random.default_rng(seed)
    with self.session.graph.as_default():
      for variable in self.variables:
        variable.load(generator.normal(0, 0.7, variable.shape.as_list()), self.session)
    steps, width = max(lengths) + extra_steps, self.fetches[0][0].shape[2]
    feeds = {
      self.inputs: generator.normal(0, 1, [steps, len(lengths), self.inputs.shape[2]]),
      self.lengths: lengths,
      self.factors: generator.normal(0, 1, [steps, len(lengths), width]),
    }
    ours, plain = self.session.run(self.fetches, feeds)
    for left, right in zip(ours, plain, strict=True):
      np.testing.assert_allclose(left, right, rtol=0, atol=1e-11 * max(1, np.abs(right).max()))
    return ours[0]


PAIRS = {}


def pair(*key):
  if key not in PAIRS:
    PAIRS[key] = Pair(*key)
  return PAIRS[key]


@pytest.mark.parametrize("rnn_type", ["gru", "lstm", "rnn"])
@settings(max_examples=25, deadline=None)
@given(
  is_bidirectional=st.booleans(),
  masked=st.booleans(),
  sizes=st.sampled_from([(1, 1), (3, 2), (2, 5)]),
  lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
  extra_steps=st.integers(0, 3),
  seed=st.integers(0, 2**32 - 1),
)
def test_values_and_gradients_equal_the_plain_form(
  rnn_type, is_bidirectional, masked, sizes, lengths, extra_steps, seed
):
  outputs = pair(rnn_type, is_bidirectional, *sizes, masked).compare(lengths, extra_steps, seed)
  if masked:
    for number, length in enumerate(lengths):
      assert not outputs[length:, number].any()
      assert outputs[:length, number].any()


def test_bias_of_the_gates_starts_at_one():
  with tf.Graph().as_default():
    recurrent.rnn_layer(tf.zeros([2, 1, 3]), None, "gru", 4, 1, False)
    with tf.compat.v1.Session() as session:
      session.run(tf.compat.v1.global_variables_initializer())
      values = {v.op.name: session.run(v) for v in tf.compat.v1.trainable_variables()}
  np.testing.assert_array_equal(values["rnn/rnn_fw_1/gates/bias"], np.ones(8))
  np.testing.assert_array_equal(values["rnn/rnn_fw_1/candidate/bias"], np.zeros(4))
