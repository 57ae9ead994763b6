"""Dropout that leaves out the same features in all steps of an utterance, and again in a run that is resumed."""

from layers import packing, variables
from official_utils.lazy import tf


def dropout(rows: "tf.Tensor", batch: packing.Packing, rate: float, layer: int) -> "tf.Tensor":
  """Set features to zero at random and raise the others, so that the mean stays the same.

  What is drawn depends on nothing but the graph's seed, the global step, the layer, the replica and the utterance's
  place in its batch.

  Args:
    rows: [rows, features].
    batch: where the rows are.
    rate: the share of features that are left out, 0 or more and less than 1.
    layer: the layer's number, below 2**16; layers with different numbers draw different features.

  Returns:
    Rows of the same shape and number format.
  """
  if not rate:
    return rows
  shape, dtype = [tf.size(batch.lengths), rows.shape[1]], variables.stored_dtype(rows.dtype)
  is_kept = tf.random.stateless_uniform(shape, _seed(layer), dtype=dtype) >= rate
  factors = tf.cast(is_kept, dtype) / (1 - rate)
  return tf.cast(tf.cast(rows, dtype) * packing.of_utterances(factors, batch), rows.dtype)


def _seed(layer):
  """Put together the two numbers from which a step's features are drawn."""
  step = tf.compat.v1.train.get_global_step()
  replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
  graph_seed = (tf.compat.v1.get_default_graph().seed or 0) % 2**31
  drawn_for = graph_seed * 2**32 + replica * 2**16 + layer
  return tf.stack([drawn_for, tf.cast(0 if step is None else step, tf.int64)])
