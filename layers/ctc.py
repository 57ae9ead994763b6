"""The CTC loss of each utterance of a batch."""

from official_utils.lazy import tf


def ctc_losses(
  logits: "tf.Tensor", logit_lengths: "tf.Tensor", labels: "tf.Tensor", label_lengths: "tf.Tensor"
) -> "tf.Tensor":
  """Compute each utterance's CTC loss; the last class is the blank.

  Args:
    logits: [batch, time, classes], before the softmax.
    logit_lengths: [batch] int32, real time steps.
    labels: [batch, labels] int32; the padding may hold any value.
    label_lengths: [batch] int32, real labels.

  Returns:
    [batch] negative log-probabilities; 0 where the labels do not fit into the time steps.
  """
  labels = tf.pad(tf.cast(labels, tf.int32), [[0, 0], [0, 1]])
  is_empty, is_too_long = tf.equal(label_lengths, 0), count_needed_steps(labels, label_lengths) > logit_lengths
  # TensorFlow's loss refuses an utterance without labels, and is infinite if repeated labels do not fit: such an
  # utterance borrows a single label here and gets its own loss below.
  is_lent = is_empty | is_too_long
  labels = tf.where(is_lent[:, tf.newaxis], 0, labels)
  label_lengths = tf.where(is_lent, 1, label_lengths)
  indices = tf.where(tf.sequence_mask(label_lengths, tf.shape(labels)[1]))
  losses = tf.compat.v1.nn.ctc_loss(
    labels=tf.SparseTensor(indices, tf.gather_nd(labels, indices), tf.shape(labels, out_type=tf.int64)),
    inputs=logits,
    time_major=False,
    sequence_length=logit_lengths,
    ignore_longer_outputs_than_inputs=True,
  )
  losses = tf.where(is_too_long, tf.zeros_like(losses), losses)
  return tf.where(is_empty, _blank_losses(logits, logit_lengths), losses)


def count_needed_steps(labels: "tf.Tensor", label_lengths: "tf.Tensor") -> "tf.Tensor":
  """Count the time steps that labels need: one each, and one more for the blank between two equal labels.

  Args:
    labels: [batch, labels]; the padding may hold any value.
    label_lengths: [batch], real labels.

  Returns:
    [batch] int32.
  """
  is_pair = tf.sequence_mask(label_lengths - 1, tf.shape(labels)[1] - 1)
  repeats = tf.equal(labels[:, 1:], labels[:, :-1]) & is_pair
  return label_lengths + tf.reduce_sum(tf.cast(repeats, tf.int32), axis=1)


def _blank_losses(logits, logit_lengths):
  """Compute the loss of the only path that spells nothing: all blanks."""
  is_real = tf.sequence_mask(logit_lengths, tf.shape(logits)[1], logits.dtype)
  return -tf.reduce_sum(tf.nn.log_softmax(logits)[:, :, -1] * is_real, axis=1)
