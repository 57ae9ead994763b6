"""Recurrent layers as loops that XLA compiles, for the cells that cuDNN does not compute.

Left to TensorFlow, a time step of a direction is some ten kernels on a GPU, each of which takes longer to start than to
run. XLA fuses them into a few, and both directions share them: they are one batch of products. XLA wants fixed shapes, so
the loops run over padded steps. A direction's utterances all begin in the first step, so that padding comes after their
ends, where nothing reads the state any more and every gradient is zero: the loops need no masks, as long as a state has
bounds, which `cudnn.choose_kernel` sees to.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from layers import cells, packing, products, variables
from official_utils.lazy import tf

# XLA compiles the loops again for each number of steps, which takes seconds; batches of similar lengths share one.
STEPS_MULTIPLE = 32


def run_directions(
  cell: cells.Cell, batch: packing.Packing, projections: Sequence[tuple[Sequence, Sequence]]
) -> list["tf.Tensor"]:
  """Run all directions of a layer side by side.

  Args:
    cell: the cell.
    batch: where the rows are.
    projections: what `cell.project` returned for each direction: forward, and backward if there are two.

  Returns:
    Rows [rows, hidden] of each direction.
  """
  plans = [packing.from_first_step(batch, side == 1, STEPS_MULTIPLE) for side in range(len(projections))]
  padded = [
    [packing.unpack(rows, plan) for rows in projected] for (projected, _), plan in zip(projections, plans, strict=True)
  ]
  outputs = _differentiable(cell)(padded, [weights for _, weights in projections])
  return [packing.pack(each, plan) for each, plan in zip(outputs, plans, strict=True)]


def _differentiable(cell: cells.Cell) -> Callable:
  """Make the function from padded projections [time, batch, columns] and weights to outputs [time, batch, hidden].

  All arguments and results are lists with an item for each direction.
  """
  forward, backward = _compiled(cell)

  @tf.custom_gradient
  def run(projected, weights):
    outputs, states, saved = forward(projected, weights)

    def gradient(*d_outputs):
      return tf.nest.flatten(backward(list(d_outputs), states, saved, weights))

    return outputs, gradient

  return run


def _compiled(cell: cells.Cell) -> tuple[Callable, Callable]:
  """Return both passes as functions of XLA: the same ones for all layers of a graph, so that XLA compiles them once."""
  # A key that is no string keeps the collection out of what is saved with checkpoints.
  made = tf.compat.v1.get_collection_ref(("compiled", cell))
  if not made:
    made += [
      tf.function(functools.partial(each, cell), autograph=False, jit_compile=True) for each in (_forward, _backward)
    ]
  return made[0], made[1]


def _forward(cell: cells.Cell, projected: Sequence, weights: Sequence) -> tuple[list, list, list]:
  """Step through time.

  Args:
    cell: the cell.
    projected: for each direction the projections [time, batch, columns].
    weights: for each direction the state's weights.

  Returns:
    The outputs [time, batch, hidden] of each direction; the states after each step and what the steps kept, all
    [time, directions, batch, columns].
  """
  weights, dtype = _stack(weights), projected[0][0].dtype

  def step(time, state):
    new_state, saved = _each_direction(cell.step, _as_states(_stack(_take(projected, time))), state, weights)
    return new_state, (*new_state, *saved)

  widths = (*[1] * cell.num_states, *cell.saved_widths)
  kept = _loop(cell, projected[0][0], len(projected), step, widths, variables.stored_dtype(dtype))
  states, saved = kept[: cell.num_states], kept[cell.num_states :]
  return tf.unstack(tf.cast(states[0], dtype), axis=1), states, saved


def _backward(
  cell: cells.Cell, d_outputs: Sequence, states: Sequence, saved: Sequence, weights: Sequence
) -> tuple[list, list]:
  """Step back through time and compute the gradients of both arguments of `_forward`.

  Args:
    cell: the cell.
    d_outputs: the gradients of the outputs, [time, batch, hidden] for each direction.
    states: from `_forward`.
    saved: from `_forward`.
    weights: for each direction the state's weights.
  """
  previous = [tf.pad(state, [[1, 0], [0, 0], [0, 0], [0, 0]])[:-1] for state in states]
  shape = tf.shape(states[0])
  flat = cell.factors(*([_rows(each) for each in group] for group in (previous, states, saved)))
  factors = [tf.reshape(factor, [*tf.unstack(shape[:3]), factor.shape[1]]) for factor in flat]
  transposed = _stack(tf.nest.map_structure(tf.transpose, weights))

  def step_back(time, d_state):
    d_output, *now = _take([d_outputs, *factors], time)
    d_state = (d_state[0] + _as_states(tf.stack(d_output)), *d_state[1:])
    return _each_direction(cell.step_gradient, d_state, now, transposed)

  like = d_outputs[0]
  recorded = _loop(cell, like, len(d_outputs), step_back, cell.recorded_widths, like.dtype, is_backward=True)
  d_projected, d_weights = [], []
  for side in range(len(d_outputs)):
    groups = ([_rows(each[:, side]) for each in group] for group in (recorded, previous, saved))
    gradients = cell.gradients(*groups)
    d_projected.append([tf.reshape(each, [shape[0], shape[2], each.shape[1]]) for each in gradients[0]])
    d_weights.append(list(gradients[1]))
  return d_projected, d_weights


def _loop(
  cell: cells.Cell,
  like: "tf.Tensor",
  num_sides: int,
  body: Callable,
  widths: Sequence[int],
  dtype: "tf.DType",
  is_backward: bool = False,
) -> list["tf.Tensor"]:
  """Run a loop over time that carries a state and records tensors.

  Args:
    cell: the cell, for the number and size of its states.
    like: any tensor [time, batch, columns] of the layer's number format.
    num_sides: directions.
    body: (time, state) -> (new state, tensors to record), each [directions, batch, columns].
    widths: the columns of each recorded tensor, in units of the hidden size.
    dtype: the number format of recorded tensors.
    is_backward: whether to go from the last step to the first.

  Returns:
    The recorded tensors, [time, directions, batch, columns].
  """
  num_steps, batch_size, _ = tf.unstack(tf.shape(like))
  shapes = [[num_sides, None, width * cell.hidden_size] for width in widths]
  arrays = [tf.TensorArray(dtype, num_steps, element_shape=shape) for shape in shapes]

  def advance(step, state, arrays):
    time = num_steps - 1 - step if is_backward else step
    state, recorded = body(time, state)
    state = tuple(tf.ensure_shape(each, [num_sides, None, cell.hidden_size]) for each in state)
    arrays = [array.write(time, tf.cast(each, dtype)) for array, each in zip(arrays, recorded, strict=True)]
    return step + 1, state, arrays

  state = (tf.zeros([num_sides, batch_size, cell.hidden_size], variables.stored_dtype(like.dtype)),) * cell.num_states
  _, _, arrays = tf.while_loop(lambda step, *_: step < num_steps, advance, [tf.constant(0), state, arrays])
  return [array.stack() for array in arrays]


def _each_direction(function: Callable, *arguments: Any) -> Any:
  """Apply a cell's function to each direction, as one batch: the first axis of all tensors; weights come last."""
  return tf.vectorized_map(lambda each: function(*each[:-1], products.prepare(each[-1], are_cut=False)), arguments)


def _as_states(tensors: Any) -> Any:
  """Give tensors the number format of states."""
  return tf.nest.map_structure(lambda tensor: tf.cast(tensor, variables.stored_dtype(tensor.dtype)), tensors)


def _stack(sides: Sequence) -> Any:
  """Turn like structures of tensors, one for each direction, into one of tensors with the directions as first axis."""
  return tf.nest.map_structure(lambda *tensors: tf.stack(tensors), *sides)


def _take(tensors: Any, time: "tf.Tensor") -> Any:
  """Take one time step of all tensors, whose first axis is time."""
  return tf.nest.map_structure(lambda tensor: tensor[time], tensors)


def _rows(tensor: "tf.Tensor") -> "tf.Tensor":
  """Merge all axes but the last."""
  return tf.reshape(tensor, [-1, tensor.shape[-1]])
