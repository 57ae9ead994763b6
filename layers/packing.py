"""Padded batches without their padding: the real time steps as the rows of a matrix.

The rows of a time step are together, longest utterance first, so that the utterances still running are always the first
rows of the previous step. Work on rows spends nothing on padding and needs no mask.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from official_utils.lazy import tf


class Packing(NamedTuple):
  """Where the real steps of a padded batch are among the rows.

  Attributes:
    lengths: [batch] int32, real time steps.
    num_steps: time steps of the padded batch, a scalar.
    counts: [longest], the rows of each time step.
    starts: [longest], the first row of each time step.
    sources: [rows], each row's place in the flattened [batch * time].
    targets: [batch * time], each place's row counted from 1, 0 for padding.
    neighbours: two of [rows]: the utterance's row one step earlier and one step later, counted from 1, 0 for none.
  """

  lengths: "tf.Tensor"
  num_steps: "tf.Tensor"
  counts: "tf.Tensor"
  starts: "tf.Tensor"
  sources: "tf.Tensor"
  targets: "tf.Tensor"
  neighbours: tuple["tf.Tensor", "tf.Tensor"]


def plan(lengths: "tf.Tensor", num_steps: "tf.Tensor | int") -> Packing:
  """Plan how to pack a batch.

  Args:
    lengths: [batch] int32, real time steps, at most num_steps.
    num_steps: time steps of the padded batch.
  """
  batch_size = tf.shape(lengths)[0]
  # Equal lengths stay in their order.
  order = tf.argsort(lengths, direction="DESCENDING", stable=True)
  sorted_lengths = tf.gather(lengths, order)
  is_real = tf.range(tf.reduce_max(lengths))[:, tf.newaxis] < sorted_lengths
  time, place = tf.unstack(tf.cast(tf.where(is_real), tf.int32), num=2, axis=1)
  counts = tf.reduce_sum(tf.cast(is_real, tf.int32), axis=1)
  starts = tf.cumsum(counts, exclusive=True)
  sources = tf.gather(order, place) * num_steps + time
  rows = tf.range(1, tf.size(sources) + 1)
  # The distance to a neighbour is the number of rows of the earlier of the two time steps.
  earlier = tf.where(time > 0, rows - tf.gather(counts, tf.maximum(time - 1, 0)), 0)
  later = tf.where(time + 1 < tf.gather(sorted_lengths, place), rows + tf.gather(counts, time), 0)
  targets = tf.scatter_nd(sources[:, tf.newaxis], rows, [batch_size * num_steps])
  return Packing(lengths, tf.convert_to_tensor(num_steps), counts, starts, sources, targets, (earlier, later))


def from_first_step(packing: Packing, is_backward: bool, multiple: int) -> Packing:
  """Plan the same rows as a batch [time, batch, depth] for one direction: each utterance begins in the first step.

  Args:
    packing: where the rows are.
    is_backward: whether the direction begins with each utterance's end.
    multiple: the number of time steps is rounded up to a multiple of this.

  Returns:
    A plan for `pack` and `unpack` of [time, batch, depth].
  """
  lengths, num_steps = packing.lengths, packing.num_steps
  place, time = packing.sources // num_steps, packing.sources % num_steps
  targets = tf.reshape(packing.targets, [-1, num_steps])
  if is_backward:
    time = tf.gather(lengths, place) - 1 - time
    targets = tf.reverse_sequence(targets, lengths, seq_axis=1, batch_axis=0)
  batch_size = tf.size(lengths)
  targets = tf.pad(tf.transpose(targets), [[0, -num_steps % multiple], [0, 0]])
  return packing._replace(num_steps=batch_size, sources=time * batch_size + place, targets=tf.reshape(targets, [-1]))


def pack(inputs: "tf.Tensor", packing: Packing) -> "tf.Tensor":
  """Turn [batch, time, ...] into rows [rows, ...]."""
  return _inverse_pair(inputs.shape[2:], packing)[0](inputs)


def unpack(rows: "tf.Tensor", packing: Packing) -> "tf.Tensor":
  """Turn rows [rows, ...] into [batch, time, ...], zero in the padding."""
  return _inverse_pair(rows.shape[1:], packing)[1](rows)


def neighbours(rows: "tf.Tensor", packing: Packing, is_later: bool) -> "tf.Tensor":
  """Return for each row the same utterance's row one step earlier, or later; zeros where there is none."""
  return _take(rows, packing.neighbours[is_later])


def later(rows: "tf.Tensor", packing: Packing) -> "tf.Tensor":
  """Return for each row the same utterance's row one step later; zeros after the last. It has a gradient."""

  @tf.custom_gradient
  def shift(rows):
    return neighbours(rows, packing, is_later=True), lambda d_rows: neighbours(d_rows, packing, is_later=False)

  return shift(rows)


def of_utterances(values: "tf.Tensor", packing: Packing) -> "tf.Tensor":
  """Return for each row its utterance's of values [batch, ...]."""
  return tf.gather(values, packing.sources // packing.num_steps)


def windows(rows: "tf.Tensor", packing: Packing, offsets: Sequence[int]) -> "tf.Tensor":
  """Put beside each other, for each row, some of the same utterance's rows; zeros where there is none.

  Args:
    rows: [rows, depth].
    packing: where the rows are.
    offsets: how many time steps later than the row itself each of them is; negative for earlier ones.

  Returns:
    [rows, len(offsets) * depth].
  """
  time = (packing.sources % packing.num_steps)[:, tf.newaxis] + offsets
  is_there = (time >= 0) & (time < packing.num_steps)
  places = tf.where(is_there, packing.sources[:, tf.newaxis] + offsets, 0)
  numbers = tf.where(is_there, tf.gather(packing.targets, places), 0)
  return tf.reshape(_take(rows, numbers), [-1, len(offsets) * rows.shape[1]])


def _inverse_pair(shape: Sequence[int], packing: Packing) -> tuple[Callable, Callable]:
  """Make both conversions for rows of a shape; each is the other's gradient, and both are plain gathers."""

  def to_rows(padded):
    return tf.ensure_shape(tf.gather(tf.reshape(padded, [-1, *shape]), packing.sources), [None, *shape])

  def to_padded(rows):
    return tf.reshape(_take(rows, packing.targets), [-1, packing.num_steps, *shape])

  return (
    tf.custom_gradient(lambda padded: (to_rows(padded), to_padded)),
    tf.custom_gradient(lambda rows: (to_padded(rows), to_rows)),
  )


def _take(rows, numbers):
  """Gather rows by numbers counted from 1; 0 gives zeros."""
  return tf.gather(tf.pad(rows, [[1, 0], *[[0, 0]] * (rows.shape.rank - 1)]), numbers)
