"""Reads the averages of weights where the Estimator evaluates. Loads TensorFlow; import it inside functions."""

from official_utils import checkpoints
from official_utils.lazy import tf


class AveragesSaver(tf.compat.v1.train.Saver):
  """Restores the variables of the current graph, from their averages if the checkpoint has any.

  The checkpoint is known only when the graph can no longer change, so the graph has the operations of both ways.
  """

  def __init__(self):
    """Prepare both ways."""
    super().__init__()
    trained = {variable.op.name for variable in tf.compat.v1.trainable_variables()}
    names = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
    averages = {f"{name}/{checkpoints.AVERAGE}" if name in trained else name: each for name, each in names.items()}
    self._averages = tf.compat.v1.train.Saver(averages)

  def restore(self, sess: "tf.compat.v1.Session", save_path: str) -> None:
    """Set the variables to the values of a checkpoint.

    Args:
      sess: the session.
      save_path: the checkpoint's prefix.
    """
    names = checkpoints.names_to_use(save_path)
    has_averages = any(name != used for name, used in names.items())
    if has_averages:
      self._averages.restore(sess, save_path)
    else:
      super().restore(sess, save_path)
