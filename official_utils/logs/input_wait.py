"""Measures how long the steps of a session wait for their input."""

from official_utils.lazy import tf

TENSOR_NAME = "input_wait"


def seconds_waited(inputs: "tf.Tensor") -> "tf.Tensor":
  """Build the time that a step spends before its input is there: next to none where the input keeps up.

  Both clocks are read within the step: whatever is prefetched, by whom and to which device, only what the step itself
  had to wait for counts.

  Args:
    inputs: a tensor of the input as the model is given it.

  Returns:
    float64 scalar, seconds, called TENSOR_NAME in the current name scope.
  """
  with tf.device("/cpu:0"):
    start = tf.timestamp()
    with tf.control_dependencies([start, inputs]):
      arrival = tf.timestamp()
    return tf.subtract(arrival, start, name=TENSOR_NAME)
