"""Recurrent layers computed by cuDNN, with the variables of our own cells.

The variables keep their names and shapes; the single vector that cuDNN needs is put together in the graph, so that
gradients flow into the variables and checkpoints do not depend on the kernel.
"""

from collections.abc import Mapping, Sequence

from layers import cells, packing
from official_utils.lazy import tf
from official_utils.misc.errors import UserError

RNN_KERNELS = ("auto", "native", "cudnn", "compiled")

# Cells that cuDNN computes, with its name for them.
RNN_MODES = {"lstm": "lstm", "gru_reset_after": "gru"}


def choose_kernel(
  rnn_kernel: str,
  rnn_type: str,
  devices: Sequence[str],
  rnn_activation: str = "tanh",
  rnn_gate_activation: str = "sigmoid",
) -> str:
  """Decide what computes the recurrent layers.

  Args:
    rnn_kernel: a name of RNN_KERNELS; "auto" takes cuDNN if possible.
    rnn_type: a name of `cells.SUPPORTED_RNNS`.
    devices: the devices of the replicas, such as ["/gpu:0"].
    rnn_activation: the cells' activation.
    rnn_gate_activation: that of their gates.

  Returns:
    "native", "cudnn" or "compiled".

  Raises:
    UserError: "cudnn" or "compiled" is asked for and not possible.
  """
  if rnn_kernel == "compiled" and rnn_activation != "tanh":
    # Beyond an utterance's end its loops go on, and a state without bounds may overflow there: infinity times 0 is no 0.
    raise UserError(
      f"--rnn_kernel=compiled computes padding too, where --rnn_activation={rnn_activation} may grow without end; give "
      "--rnn_kernel=auto or native"
    )
  if rnn_kernel in ("native", "compiled"):
    return rnn_kernel
  faults = []
  if rnn_type not in RNN_MODES:
    faults.append(f"computes {' and '.join(RNN_MODES)}, not --rnn_type={rnn_type}")
  if rnn_activation != "tanh":
    faults.append(f"computes tanh, not --rnn_activation={rnn_activation}")
  if rnn_gate_activation != "sigmoid":
    faults.append(f"computes sigmoid gates, not --rnn_gate_activation={rnn_gate_activation}")
  # MIOpen, which takes cuDNN's place on AMD's GPUs, orders the gates differently.
  if not all(device.startswith("/gpu:") for device in devices) or tf.test.is_built_with_rocm():
    faults.append(f"runs on NVIDIA GPUs, not on {', '.join(devices)}")
  if not faults:
    return "cudnn"
  if rnn_kernel == "auto":
    return "native"
  raise UserError(f"--rnn_kernel=cudnn {' and '.join(faults)}; give --rnn_kernel=auto or native")


def run_direction(
  rnn_type: str,
  inputs: "tf.Tensor",
  batch: packing.Packing,
  values: Mapping[str, "tf.Tensor"],
  is_backward: bool,
) -> "tf.Tensor":
  """Run one direction of a layer.

  Args:
    rnn_type: a name of RNN_MODES.
    inputs: rows [rows, depth].
    batch: where the rows are.
    values: the values of the cell's variables.
    is_backward: whether to run from each utterance's end to its beginning.

  Returns:
    Rows [rows, hidden].
  """
  # cuDNN does not take empty utterances; the output for one is dropped when the rows are packed.
  lengths = tf.maximum(batch.lengths, 1)

  def turn(padded):
    return tf.reverse_sequence(padded, lengths, seq_axis=1, batch_axis=0) if is_backward else padded

  parameters, hidden_size = pack_parameters(rnn_type, inputs.shape[1], values)
  outputs = _run_kernel(rnn_type, turn(packing.unpack(inputs, batch)), lengths, parameters, hidden_size)
  return packing.pack(turn(outputs), batch)


def _run_kernel(
  rnn_type: str, padded: "tf.Tensor", lengths: "tf.Tensor", parameters: "tf.Tensor", hidden_size: int
) -> "tf.Tensor":
  """Run cuDNN's kernel from the beginning to the end, [batch, time, depth] to [batch, time, hidden]."""
  empty = tf.zeros([tf.shape(lengths)[0], 1, hidden_size], padded.dtype)
  outputs = tf.raw_ops.CudnnRNNV3(
    input=padded,
    input_h=empty,
    input_c=empty,
    params=parameters,
    sequence_lengths=lengths,
    rnn_mode=RNN_MODES[rnn_type],
    # The gradient needs it.
    is_training=True,
    time_major=False,
  ).output
  return tf.ensure_shape(outputs, [None, None, hidden_size])


def pack_parameters(rnn_type: str, depth: int, values: Mapping[str, "tf.Tensor"]) -> tuple["tf.Tensor", int]:
  """Put a cell's variables into the single vector that cuDNN needs.

  It holds the matrices of the inputs, gate by gate, then those of the state, each [hidden, inputs] row by row; then
  the biases of the inputs, gate by gate, then those of the state.

  Args:
    rnn_type: a name of RNN_MODES.
    depth: the size of the inputs.
    values: the values of the cell's variables.

  Returns:
    The vector, and the cell's hidden size.
  """
  matrices, biases = _PARTS[rnn_type](depth, values)
  parts = [*(tf.transpose(matrix) for matrix in matrices), *biases]
  return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0), biases[0].shape[0]


def _lstm_parts(depth: int, values: Mapping) -> tuple[list, list]:
  """List the LSTM's matrices and biases in cuDNN's order: input, forget, new, output; ours has new before forget."""

  def in_order(tensor):
    gates = tf.split(tensor, 4, axis=-1)
    return [gates[0], gates[2], gates[1], gates[3]]

  biases = in_order(values["bias"])
  biases[1] += 1.0  # Our cell adds this to the forget gate itself.
  matrices = [gate for rows in cells.split_kernel(values["kernel"], depth) for gate in in_order(rows)]
  return matrices, [*biases, *map(tf.zeros_like, biases)]


def _gru_parts(depth: int, values: Mapping) -> tuple[list, list]:
  """List the GRU's matrices and biases in cuDNN's order: reset, update, candidate, as in our cell."""
  matrices, biases = [], []
  gate_rows = cells.split_kernel(values["gates/kernel"], depth)
  gate_biases = [values["gates/bias"], tf.zeros_like(values["gates/bias"])]
  for part, rows, bias in zip(("input", "hidden"), gate_rows, gate_biases, strict=True):
    matrices += [*tf.split(rows, 2, axis=1), values[f"candidate/{part}_projection/kernel"]]
    biases += [*tf.split(bias, 2), values[f"candidate/{part}_projection/bias"]]
  return matrices, biases


_PARTS = {"lstm": _lstm_parts, "gru_reset_after": _gru_parts}
