"""The plain forms of what the original computes: slow, short, and the reference that tests and benchmarks compare with."""

from official_utils.lazy import tf


def gru_step(inputs: "tf.Tensor", state: tuple, kernels: dict) -> tuple:
  """Step a GRU: the reset gate acts on the state before the product. State and result are (hidden,)."""
  (hidden,) = state
  gates = tf.sigmoid(tf.matmul(tf.concat([inputs, hidden], 1), kernels["gates/kernel"]) + kernels["gates/bias"])
  reset, update = tf.split(gates, 2, axis=1)
  joined = tf.concat([inputs, reset * hidden], 1)
  candidate = tf.tanh(tf.matmul(joined, kernels["candidate/kernel"]) + kernels["candidate/bias"])
  return (update * hidden + (1 - update) * candidate,)


def lstm_step(inputs: "tf.Tensor", state: tuple, kernels: dict) -> tuple:
  """Step an LSTM without peepholes, forget bias 1. State and result are (hidden, cell)."""
  hidden, cell = state
  enter, new, keep, leave = tf.split(
    tf.matmul(tf.concat([inputs, hidden], 1), kernels["kernel"]) + kernels["bias"], 4, axis=1
  )
  cell = cell * tf.sigmoid(keep + 1.0) + tf.sigmoid(enter) * tf.tanh(new)
  return tf.tanh(cell) * tf.sigmoid(leave), cell


def rnn_step(inputs: "tf.Tensor", state: tuple, kernels: dict) -> tuple:
  """Step a plain tanh cell. State and result are (hidden,)."""
  return (tf.tanh(tf.matmul(tf.concat([inputs, state[0]], 1), kernels["kernel"]) + kernels["bias"]),)


STEPS = {"gru": gru_step, "lstm": lstm_step, "rnn": rnn_step}
NUM_STATES = {"gru": 1, "lstm": 2, "rnn": 1}


def run_direction(
  rnn_type: str, inputs: "tf.Tensor", lengths: "tf.Tensor | None", kernels: dict, is_backward: bool
) -> "tf.Tensor":
  """Run one cell through time in a loop of its own, left to automatic differentiation.

  Args:
    rnn_type: "gru", "lstm" or "rnn".
    inputs: [time, batch, depth].
    lengths: [batch] real steps, or None to take all for real.
    kernels: the cell's variables by their names below the cell.
    is_backward: whether to go from each utterance's end to its beginning.

  Returns:
    Outputs [time, batch, hidden], zero beyond the lengths.
  """
  num_steps, batch_size = tf.shape(inputs)[0], tf.shape(inputs)[1]
  hidden_size = next(v for k, v in kernels.items() if k.endswith("kernel") and "gates" not in k).shape[1]
  hidden_size //= 4 if rnn_type == "lstm" else 1
  turned = tf.fill([batch_size], num_steps) if lengths is None else lengths
  if is_backward:
    inputs = tf.reverse_sequence(inputs, turned, seq_axis=0, batch_axis=1)
  outputs = tf.TensorArray(inputs.dtype, num_steps, element_shape=[None, hidden_size])
  state = (tf.zeros([batch_size, hidden_size], inputs.dtype),) * NUM_STATES[rnn_type]

  def body(time, state, outputs):
    new_state = STEPS[rnn_type](inputs[time], state, kernels)
    output = new_state[0]
    if lengths is not None:
      alive = (time < lengths)[:, tf.newaxis]
      new_state = tuple(tf.where(alive, new, old) for new, old in zip(new_state, state, strict=True))
      output = tf.where(alive, output, tf.zeros_like(output))
    return time + 1, new_state, outputs.write(time, output)

  _, _, outputs = tf.while_loop(lambda time, *_: time < num_steps, body, [tf.constant(0), state, outputs])
  outputs = outputs.stack()
  return tf.reverse_sequence(outputs, turned, seq_axis=0, batch_axis=1) if is_backward else outputs
