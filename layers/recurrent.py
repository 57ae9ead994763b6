"""Recurrent layers on packed rows, in one direction or both, with a hand-derived gradient.

The inputs of all time steps are projected in large matrix products; a loop over time steps then computes the states and
keeps the activations. The gradient's loop carries only the gradient of the state; the gradients of all weights are
large matrix products after it. A step has only the utterances that are still running: going forward the rows of a state
become fewer, going backward utterances join with a state of zero at their end.

In half precision only products are rounded: states, activations and their gradients stay in single precision, which
costs no time, because a step's products take most of it.
"""

from collections.abc import Callable, Sequence

from layers import cells, compiled, cudnn, packing, products, variables
from official_utils.lazy import tf


def rnn_layer(
  inputs: "tf.Tensor",
  batch: packing.Packing,
  rnn_type: str,
  hidden_size: int,
  layer_id: int,
  is_bidirectional: bool,
  kernel: str = "native",
  merge: str = "concat",
  **of_cell: str,
) -> "tf.Tensor":
  """Run one recurrent layer over a packed batch.

  Args:
    inputs: rows [rows, depth].
    batch: where the rows are.
    rnn_type: a name of `cells.SUPPORTED_RNNS`.
    hidden_size: the cell's size.
    layer_id: the layer's number, from 1 on; part of the variables' names.
    is_bidirectional: whether a second cell runs from the end to the beginning.
    kernel: "native", "compiled", or "cudnn" for the cells of `cudnn.RNN_MODES` on a GPU.
    merge: how two directions are joined: "concat" side by side, "sum" added up.
    **of_cell: further attributes of `cells.Cell`.

  Returns:
    Rows [rows, hidden or, side by side, 2 * hidden] in the inputs' number format.
  """
  cell = cells.SUPPORTED_RNNS[rnn_type](hidden_size, **of_cell)
  names = [f"bidirectional_rnn/{side}/rnn_{side}_{layer_id}" for side in ("fw", "bw")]
  outputs, projections = [], []
  for number, scope in enumerate(names if is_bidirectional else [f"rnn/rnn_fw_{layer_id}"]):
    with tf.compat.v1.variable_scope(scope):
      values = _make_variables(cell, inputs)
    if kernel == "cudnn":
      outputs.append(cudnn.run_direction(rnn_type, inputs, batch, values, is_backward=number == 1))
    elif kernel == "compiled":
      projections.append(cell.project(inputs, values))
    else:
      outputs.append(unroll(cell, batch, number == 1, *cell.project(inputs, values)))
  if projections:
    outputs = compiled.run_directions(cell, batch, projections)
  return tf.add_n(outputs) if merge == "sum" else tf.concat(outputs, axis=1)


def _make_variables(cell: cells.Cell, inputs: "tf.Tensor") -> dict[str, "tf.Tensor"]:
  """Make a cell's variables; return their values in the inputs' number format."""
  values = {}
  for name, (shape, start) in cell.variables(inputs.shape[1]).items():
    initializer = tf.compat.v1.constant_initializer(start) if isinstance(start, float) else start
    values[name] = variables.make_value(name, shape, inputs.dtype, initializer)
  return values


def unroll(
  cell: cells.Cell,
  batch: packing.Packing,
  is_backward: bool,
  projected: Sequence["tf.Tensor"],
  weights: Sequence["tf.Tensor"],
) -> "tf.Tensor":
  """Step one direction through time, with the hand-derived gradient.

  Args:
    cell: the cell.
    batch: where the rows are.
    is_backward: whether to run from the end to the beginning.
    projected: the first result of `cell.project`.
    weights: the second result of `cell.project`.

  Returns:
    Outputs [rows, hidden], in the number format of the projected inputs.
  """
  dtype = projected[0].dtype

  @tf.custom_gradient
  def run(projected, weights):
    prepared = products.prepare(weights)

    def step(at, state):
      state, saved = cell.step([at(tensor) for tensor in projected], state, prepared)
      return state, (*state, *saved)

    widths = [cell.hidden_size * width for width in (*[1] * cell.num_states, *cell.saved_widths)]
    kept = _loop(cell, batch, is_backward, step, widths, variables.stored_dtype(dtype))
    states, saved = kept[: cell.num_states], kept[cell.num_states :]

    def gradient(d_outputs):
      previous = [packing.neighbours(state, batch, is_later=is_backward) for state in states]
      factors = cell.factors(previous, states, saved)
      transposed = products.transpose(prepared)

      def step_back(at, d_state):
        d_state = (d_state[0] + at(d_outputs), *d_state[1:])
        return cell.step_gradient(d_state, [at(factor) for factor in factors], transposed)

      widths = [cell.hidden_size * width for width in cell.recorded_widths]
      recorded = _loop(cell, batch, not is_backward, step_back, widths, dtype)
      d_projected, d_weights = cell.gradients(recorded, previous, saved)
      return [*d_projected, *d_weights]

    return tf.cast(states[0], dtype), gradient

  return run(projected, weights)


def _loop(
  cell: cells.Cell,
  batch: packing.Packing,
  is_backward: bool,
  body: Callable,
  widths: Sequence[int],
  dtype: "tf.DType",
) -> list["tf.Tensor"]:
  """Run a loop over time steps that carries a state and records tensors.

  Each direction has its own loop, so that two loops run side by side and neither waits for the other at every step.

  Args:
    cell: the cell, for the number and size of its states.
    batch: where the rows are.
    is_backward: whether to go from the last step to the first.
    body: (at, state) -> (new state, tensors to record), where at(tensor) returns this step's rows.
    widths: the columns of each recorded tensor.
    dtype: the number format of recorded tensors; that of states and of what `at` returns is single precision at least.

  Returns:
    The recorded tensors, [rows, columns].
  """
  num_steps, state_dtype = tf.shape(batch.counts)[0], variables.stored_dtype(dtype)
  # Computed before the loop, which only looks them up.
  begins = tf.stack([batch.starts, tf.zeros_like(batch.starts)], axis=1)
  sizes = tf.stack([batch.counts, tf.fill([num_steps], -1)], axis=1)
  joining = batch.counts - tf.concat([batch.counts[1:], [0]], axis=0)
  pads = tf.reshape(tf.pad(joining[:, tf.newaxis], [[0, 0], [1, 2]]), [-1, 2, 2])

  def advance(step, state, arrays):
    time = num_steps - 1 - step if is_backward else step
    begin, size = begins[time], sizes[time]
    # Neither copies anything if the number of rows stays the same.
    state = [tf.pad(each, pads[time]) if is_backward else tf.slice(each, [0, 0], size) for each in state]
    state, recorded = body(lambda tensor: tf.cast(tf.slice(tensor, begin, size), state_dtype), state)
    arrays = [array.write(time, tf.cast(tensor, dtype)) for array, tensor in zip(arrays, recorded, strict=True)]
    return step + 1, [tf.ensure_shape(each, [None, cell.hidden_size]) for each in state], arrays

  num_rows = 0 if is_backward else tf.shape(batch.lengths)[0]
  state = [tf.zeros([num_rows, cell.hidden_size], state_dtype)] * cell.num_states
  arrays = [tf.TensorArray(dtype, num_steps, element_shape=[None, width], infer_shape=False) for width in widths]
  _, _, arrays = tf.while_loop(
    lambda step, *_: step < num_steps,
    advance,
    [tf.constant(0), state, arrays],
    shape_invariants=[
      tf.TensorShape([]),
      [tf.TensorShape([None, cell.hidden_size])] * cell.num_states,
      [tf.TensorShape(None)] * len(widths),
    ],
  )
  return [tf.ensure_shape(array.concat(), [None, width]) for array, width in zip(arrays, widths, strict=True)]
