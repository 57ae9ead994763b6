"""Holds packing against plain Python over the real steps."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from layers import packing
from official_utils.lazy import tf


def run(lengths, num_steps, build):
  """Evaluate what `build` makes of a packing of these lengths."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    return session.run(build(packing.plan(tf.constant(lengths, tf.int32), num_steps)))


def rows_in_order(lengths) -> list[tuple[int, int]]:
  """List (time, utterance): time after time, longest utterance first, equal ones as they come."""
  order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
  return [(time, number) for time in range(max(lengths)) for number in order if time < lengths[number]]


LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, more=st.integers(1, 3))
def test_rows_are_the_real_steps(lengths, more):
  num_steps = max(lengths) + more
  padded = np.random.default_rng(0).normal(size=[len(lengths), num_steps, 3])
  expected = rows_in_order(lengths)

  def build(batch):
    rows = packing.pack(tf.constant(padded), batch)
    return rows, packing.unpack(rows, batch), batch.counts, batch.starts

  rows, back, counts, starts = run(lengths, num_steps, build)
  np.testing.assert_array_equal(rows, np.reshape([padded[number, time] for time, number in expected], [-1, 3]))
  is_real = np.arange(num_steps) < np.array(lengths)[:, np.newaxis]
  np.testing.assert_array_equal(back, np.where(is_real[:, :, np.newaxis], padded, 0))
  np.testing.assert_array_equal(counts, [sum(time < length for length in lengths) for time in range(max(lengths))])
  np.testing.assert_array_equal(starts, [sum(counts[:time]) for time in range(max(lengths))])


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS)
def test_neighbours_are_the_same_utterance_a_step_away(lengths):
  places = rows_in_order(lengths)
  values = np.arange(1.0, len(places) + 1)[:, np.newaxis]

  def build(batch):
    rows = tf.constant(values)
    return [packing.neighbours(rows, batch, is_later) for is_later in (False, True)]

  for shift, found in zip((-1, 1), run(lengths, max(lengths) + 1, build), strict=True):
    expected = [
      places.index((time + shift, number)) + 1 if (time + shift, number) in places else 0 for time, number in places
    ]
    np.testing.assert_array_equal(found[:, 0], expected)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, offsets=st.lists(st.integers(-8, 8), min_size=1, max_size=4), more=st.integers(0, 3))
def test_windows_are_the_same_utterance_some_steps_away(lengths, offsets, more):
  places = rows_in_order(lengths)
  values = np.arange(1.0, 2 * len(places) + 1).reshape([-1, 2])
  found = run(lengths, max(lengths) + more, lambda batch: packing.windows(tf.constant(values), batch, offsets))
  expected = [
    [
      values[places.index(place)] if place in places else [0, 0]
      for place in ((time + offset, number) for offset in offsets)
    ]
    for time, number in places
  ]
  np.testing.assert_array_equal(found, np.reshape(expected, [-1, 2 * len(offsets)]))


@settings(max_examples=20, deadline=None)
@given(lengths=LENGTHS)
def test_gradients_go_back_to_where_the_values_came_from(lengths):
  shape = [len(lengths), max(lengths) + 1, 2]
  generator = np.random.default_rng(1)
  padded, weights = generator.normal(size=shape), generator.normal(size=shape)

  def build(batch):
    inputs = tf.constant(padded)
    outputs = packing.unpack(tf.square(packing.pack(inputs, batch)), batch)
    return tf.gradients(tf.reduce_sum(outputs * weights), inputs)[0]

  is_real = np.arange(shape[1]) < np.array(lengths)[:, np.newaxis]
  expected = np.where(is_real[:, :, np.newaxis], 2 * padded * weights, 0)
  np.testing.assert_allclose(run(lengths, shape[1], build), expected, atol=1e-15)


def test_what_lies_in_the_padding_goes_nowhere():
  padded = np.full([2, 4, 1], np.nan)
  padded[0, :1], padded[1, :3] = 1, 2

  def build(batch):
    inputs = tf.constant(padded)
    outputs = packing.unpack(packing.pack(inputs, batch), batch)
    return outputs, tf.gradients(tf.reduce_sum(tf.square(outputs)), inputs)[0]

  outputs, gradient = run([1, 3], 4, build)
  np.testing.assert_array_equal(outputs[:, :, 0], [[1, 0, 0, 0], [2, 2, 2, 0]])
  np.testing.assert_array_equal(gradient[:, :, 0], [[2, 0, 0, 0], [4, 4, 4, 0]])


@settings(max_examples=20, deadline=None)
@given(lengths=LENGTHS, is_backward=st.booleans())
def test_each_utterance_begins_in_the_first_step(lengths, is_backward):
  padded = np.random.default_rng(0).normal(size=[len(lengths), max(lengths) + 1, 2])

  def build(batch):
    rows, turned = packing.pack(tf.constant(padded), batch), packing.from_first_step(batch, is_backward, multiple=4)
    steps = packing.unpack(rows, turned)
    return steps, rows, packing.pack(steps, turned)

  steps, rows, back = run(lengths, max(lengths) + 1, build)
  assert steps.shape == (max(lengths) // 4 * 4 + 4, len(lengths), 2)
  for number, length in enumerate(lengths):
    expected = padded[number, :length]
    np.testing.assert_array_equal(steps[:length, number], expected[::-1] if is_backward else expected)
    assert not steps[length:, number].any()
  np.testing.assert_array_equal(back, rows)


@settings(max_examples=20, deadline=None)
@given(lengths=LENGTHS)
def test_later_rows_and_their_gradient(lengths):
  places = rows_in_order(lengths)
  values, weights = np.random.default_rng(1).normal(size=[2, len(places), 2])

  def build(batch):
    rows = tf.constant(values)
    ahead = packing.later(rows, batch)
    return ahead, tf.gradients(ahead, rows, tf.constant(weights))[0]

  ahead, gradient = run(lengths, max(lengths) + 1, build)
  value_at, weight_at = (dict(zip(places, each, strict=True)) for each in (values, weights))
  for (time, number), row, d_row in zip(places, ahead, gradient, strict=True):
    np.testing.assert_array_equal(row, value_at.get((time + 1, number), np.zeros(2)))
    np.testing.assert_array_equal(d_row, weight_at.get((time - 1, number), np.zeros(2)))


@settings(max_examples=20, deadline=None)
@given(lengths=LENGTHS)
def test_rows_know_their_utterance(lengths):
  found = run(lengths, max(lengths) + 1, lambda batch: packing.of_utterances(tf.range(len(lengths)), batch))
  assert found.tolist() == [number for _, number in rows_in_order(lengths)]
