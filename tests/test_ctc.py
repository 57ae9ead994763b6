"""Holds the CTC loss against a sum over all paths."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from layers import ctc
from official_utils.lazy import tf


def brute_force_loss(logits, labels):
  """Add up the probability of each path [time] that collapses to the labels."""
  log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  blank = logits.shape[1] - 1
  total = 0.0
  for path in itertools.product(range(blank + 1), repeat=len(logits)):
    collapsed = [label for label, _ in itertools.groupby(path) if label != blank]
    if collapsed == labels:
      total += np.exp(log_probs[np.arange(len(path)), list(path)].sum())
  return -np.log(total) if total else 0.0


@settings(max_examples=40, deadline=None)
@given(
  lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
  labels=st.lists(st.lists(st.integers(0, 1), max_size=4), min_size=3, max_size=3),
  seed=st.integers(0, 1000),
)
def test_equals_the_sum_over_all_paths(lengths, labels, seed):
  labels = labels[: len(lengths)]
  logits = np.random.default_rng(seed).normal(0, 2, [len(lengths), 5, 3])
  # Whatever stands beyond a row's labels must not count.
  padded = np.full([len(lengths), 4], 2, np.int32)
  for row, values in zip(padded, labels, strict=True):
    row[: len(values)] = values
  losses = ctc.ctc_losses(
    tf.constant(logits, tf.float32),
    tf.constant(lengths),
    tf.constant(padded),
    tf.constant([len(row) for row in labels]),
  )
  for number, length in enumerate(lengths):
    expected = brute_force_loss(logits[number, :length], labels[number])
    np.testing.assert_allclose(losses[number], expected, rtol=1e-4, atol=1e-5)


def test_gradients_stay_finite_where_labels_are_missing_or_do_not_fit():
  logits = tf.constant(np.random.default_rng(1).normal(0, 2, [3, 2, 3]), tf.float32)
  with tf.GradientTape() as tape:
    tape.watch(logits)
    arguments = tf.constant([2, 2, 2]), tf.constant([[0, 0], [2, 2], [1, 0]]), tf.constant([2, 0, 2])
    losses = ctc.ctc_losses(logits, *arguments)
  gradient = tape.gradient(losses, logits).numpy()
  assert losses[0] == 0
  assert not gradient[0].any()
  assert np.isfinite(gradient).all()
  assert gradient[1:].any(axis=(1, 2)).all()
