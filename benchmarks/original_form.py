"""Plain, slow and short forms of the original's computations, with which tests and benchmarks compare."""

from collections.abc import Mapping

from official_utils.lazy import tf

# (time, frequency) of each convolution's kernel and strides; both have 32 filters. The original has the first layout.
CONVOLUTIONS = {"official": (((41, 11), (2, 2)), ((21, 11), (2, 1))), "paper": (((11, 41), (2, 2)), ((11, 21), (1, 2)))}
FILTERS = 32
NORM_MOMENTUM, NORM_EPSILON = 0.997, 1e-5


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
# The variables of a cell: name, width in units of the hidden size, initial value of the bias.
KERNELS = {
  "gru": (("gates/", 2, 1.0), ("candidate/", 1, 0.0)),
  "lstm": (("", 4, 0.0),),
  "rnn": (("", 1, 0.0),),
}


def run_direction(
  rnn_type: str, inputs: "tf.Tensor", lengths: "tf.Tensor | None", kernels: dict, is_backward: bool
) -> "tf.Tensor":
  """Run one cell through time in its own loop, left to automatic differentiation.

  Args:
    rnn_type: "gru", "lstm" or "rnn".
    inputs: [time, batch, depth].
    lengths: [batch] real steps, or None if all steps are real.
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


def recurrent_layer(
  inputs: "tf.Tensor", rnn_type: str, hidden_size: int, layer_id: int, is_bidirectional: bool = True
) -> "tf.Tensor":
  """Run one recurrent layer over all frames, padding included; make its variables.

  Args:
    inputs: [time, batch, depth].
    rnn_type: "gru", "lstm" or "rnn".
    hidden_size: the cell's size.
    layer_id: the layer's number, from 1 on.
    is_bidirectional: whether a second cell runs from the end to the beginning.

  Returns:
    [time, batch, hidden or 2 * hidden].
  """
  names = [f"bidirectional_rnn/{side}/rnn_{side}_{layer_id}" for side in ("fw", "bw")]
  outputs = []
  for scope in names if is_bidirectional else [f"rnn/rnn_fw_{layer_id}"]:
    kernels = {}
    with tf.compat.v1.variable_scope(scope):
      for prefix, width, bias_start in KERNELS[rnn_type]:
        shape = [inputs.shape[2] + hidden_size, width * hidden_size]
        start = tf.compat.v1.constant_initializer(bias_start)
        kernels[f"{prefix}kernel"] = tf.compat.v1.get_variable(f"{prefix}kernel", shape, inputs.dtype)
        kernels[f"{prefix}bias"] = tf.compat.v1.get_variable(f"{prefix}bias", shape[1:], inputs.dtype, start)
    outputs.append(run_direction(rnn_type, inputs, None, kernels, len(outputs) == 1))
  return tf.concat(outputs, axis=2)


def batch_norm(inputs: "tf.Tensor", training: bool, number: int) -> "tf.Tensor":
  """Normalise over all frames, padding included: images by TensorFlow's fused kernel, sequences by plain operations."""
  channels = inputs.shape[-1:]
  with tf.compat.v1.variable_scope(f"batch_normalization_{number}" if number else "batch_normalization"):
    zeros, ones = tf.compat.v1.zeros_initializer(), tf.compat.v1.ones_initializer()
    gamma = tf.compat.v1.get_variable("gamma", channels, initializer=ones)
    beta = tf.compat.v1.get_variable("beta", channels, initializer=zeros)
    moving_mean = tf.compat.v1.get_variable("moving_mean", channels, initializer=zeros, trainable=False)
    moving_variance = tf.compat.v1.get_variable("moving_variance", channels, initializer=ones, trainable=False)
  if not training:
    return tf.nn.batch_normalization(inputs, moving_mean, moving_variance, beta, gamma, NORM_EPSILON)
  if inputs.shape.rank == 4:
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=NORM_EPSILON)
  else:
    mean, variance = tf.nn.moments(inputs, [0, 1])
    outputs = tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, NORM_EPSILON)
  for average, value in ((moving_mean, mean), (moving_variance, variance)):
    update = average.assign_sub((average - value) * (1 - NORM_MOMENTUM))
    tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.UPDATE_OPS, update)
  return outputs


def network(
  inputs: "tf.Tensor", settings: Mapping[str, str | int | bool], num_classes: int, training: bool
) -> "tf.Tensor":
  """Compute logits as the original does; make the variables, under the original's names.

  Args:
    inputs: spectrograms [batch, frames, bins, 1].
    settings: rnn_type, rnn_hidden_size, rnn_hidden_layers, is_bidirectional, use_bias and conv_layout.
    num_classes: output classes, the blank (last) included.
    training: whether batch normalisation uses the batch's own statistics.

  Returns:
    Logits [batch, time, classes].
  """
  for number, (kernel_size, strides) in enumerate(CONVOLUTIONS[settings["conv_layout"]]):
    pads = [[0, 0], *([size // 2] * 2 for size in kernel_size), [0, 0]]
    with tf.compat.v1.variable_scope(f"cnn_{number + 1}"):
      kernel = tf.compat.v1.get_variable("kernel", [*kernel_size, inputs.shape[3], FILTERS])
    images = tf.nn.conv2d(tf.pad(inputs, pads), kernel, [1, *strides, 1], "VALID")
    inputs = batch_norm(tf.nn.relu6(images), training, number)
  batch_size, depth = tf.shape(inputs)[0], inputs.shape[2] * inputs.shape[3]
  inputs = tf.reshape(inputs, [batch_size, -1, depth])
  for layer_id in range(1, settings["rnn_hidden_layers"] + 1):
    if layer_id > 1:
      inputs = batch_norm(inputs, training, layer_id)
    steps = tf.transpose(inputs, [1, 0, 2])
    cell = (settings["rnn_type"], settings["rnn_hidden_size"], layer_id, settings["is_bidirectional"])
    inputs = tf.transpose(recurrent_layer(steps, *cell), [1, 0, 2])
  inputs = batch_norm(inputs, training, settings["rnn_hidden_layers"] + 1)
  with tf.compat.v1.variable_scope("dense"):
    kernel = tf.compat.v1.get_variable("kernel", [inputs.shape[2], num_classes])
    logits = tf.tensordot(inputs, kernel, 1)
    if settings["use_bias"]:
      logits += tf.compat.v1.get_variable("bias", [num_classes], initializer=tf.compat.v1.zeros_initializer())
  return logits


def ctc_losses(
  logits: "tf.Tensor",
  num_frames: "tf.Tensor",
  input_length: "tf.Tensor",
  labels: "tf.Tensor",
  label_length: "tf.Tensor",
) -> "tf.Tensor":
  """Compute each utterance's loss: a second softmax over the probabilities, lengths by proportion in float32.

  Args:
    logits: [batch, time, classes].
    num_frames: frames of the padded batch, a scalar.
    input_length: [batch] int32, frames of each utterance.
    labels: [batch, labels] int32.
    label_length: [batch] int32.

  Returns:
    [batch].
  """
  scaled = tf.cast(input_length * tf.shape(logits)[1], tf.float32)
  steps = tf.cast(tf.math.floordiv(scaled, tf.cast(num_frames, tf.float32)), tf.int32)
  indices = tf.where(tf.sequence_mask(label_length, tf.shape(labels)[1]))
  sparse = tf.SparseTensor(indices, tf.gather_nd(labels, indices), tf.shape(labels, out_type=tf.int64))
  # Keras does this to the probabilities it is given.
  log_probs = tf.math.log(tf.transpose(tf.nn.softmax(logits), [1, 0, 2]) + 1e-7)
  return tf.compat.v1.nn.ctc_loss(sparse, log_probs, steps, ignore_longer_outputs_than_inputs=True)


def train_op(loss: "tf.Tensor", learning_rate: float) -> "tf.Operation":
  """Build one Adam step with the update of the moving averages."""
  with tf.control_dependencies(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)):
    return tf.compat.v1.train.AdamOptimizer(learning_rate).minimize(loss)
