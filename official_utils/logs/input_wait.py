"""Measures how long the steps of a session wait for their input."""

from official_utils.lazy import tf

TENSOR_NAME = "input_wait"


def seconds_waited(inputs: "tf.Tensor") -> "tf.Tensor":
  """Build the time that a step waits for its input: almost none if the input keeps up.

  Both clocks are read inside the step, so only its own waiting counts, whatever is prefetched and to which device.

  Args:
    inputs: a tensor of the input that the model is given.

  Returns:
    float64 scalar, seconds, named TENSOR_NAME in the current name scope.
  """
  with tf.device("/cpu:0"):
    start = tf.timestamp()
    with tf.control_dependencies([start, inputs]):
      arrival = tf.timestamp()
    return tf.subtract(arrival, start, name=TENSOR_NAME)
