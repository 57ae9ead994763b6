"""Recurrent layers: GRU, LSTM and plain RNN, in one direction or both, with a gradient of their own.

The inputs of all time steps are projected in large matrix products; a loop over time then steps both directions side by
side and keeps the activations. The gradient's loop carries only the gradient of the state; the gradients of all weights
are large matrix products after it. A state is zero wherever the mask is, so the backward direction needs no reversal of
its input: it stays at zero through the padding and starts at the utterance's true last step.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from official_utils.lazy import tf


class Gru(NamedTuple):
  """The GRU cell whose reset gate acts on the state before the product."""

  hidden_size: int

  @property
  def kernels(self) -> dict[str, tuple[int, float]]:
    """Name each kernel's scope with the number of columns and its bias at the start."""
    return {"gates/": (2 * self.hidden_size, 1.0), "candidate/": (self.hidden_size, 0.0)}

  @property
  def saved_columns(self) -> list[int]:
    """Count the columns of what `step` keeps."""
    return [2 * self.hidden_size, self.hidden_size]

  def zero_state(self, batch_size: "tf.Tensor", dtype: "tf.DType") -> tuple:
    """Start with an empty state: the output of the step before."""
    return (tf.zeros([batch_size, self.hidden_size], dtype),)

  def step(self, projected: Sequence, state: tuple, weights: Sequence) -> tuple:
    """Advance one step.

    Args:
      projected: gates [batch, 2 * hidden] and candidate [batch, hidden], the inputs' part of the products.
      state: the output of the step before, [batch, hidden].
      weights: the state's rows of both kernels, [hidden, 2 * hidden] and [hidden, hidden].

    Returns:
      The new state, and what the gradient needs: activated gates and candidate.
    """
    (hidden,) = state
    gates = tf.sigmoid(projected[0] + tf.matmul(hidden, weights[0]))
    reset, update = _halves(gates)
    candidate = tf.tanh(projected[1] + tf.matmul(reset * hidden, weights[1]))
    return (candidate + update * (hidden - candidate),), (gates, candidate)

  def factors(self, previous: tuple, state: tuple, saved: Sequence) -> tuple:
    """Compute for all steps at once what `step_gradient` multiplies with.

    Args:
      previous: the states before each step, [time, batch, hidden].
      state: the states after each step.
      saved: what `step` kept, [time, batch, columns].

    Returns:
      Tensors [time, batch, hidden].
    """
    (hidden,), (gates, candidate) = previous, saved
    reset, update = _halves(gates)
    to_candidate = (1 - update) * (1 - candidate * candidate)
    to_update = (hidden - candidate) * update * (1 - update)
    return to_candidate, to_update, hidden * reset * (1 - reset), update, reset

  def step_gradient(self, d_state: tuple, factors: Sequence, weights: Sequence) -> tuple:
    """Go one step back.

    Args:
      d_state: the gradient of this step's state, [batch, hidden].
      factors: from `factors`, at this step.
      weights: the state's rows of both kernels, transposed.

    Returns:
      The gradient of the state before, and of the two projected inputs.
    """
    (d_hidden,), (to_candidate, to_update, to_reset, update, reset) = d_state, factors
    d_candidate = d_hidden * to_candidate
    d_reset_hidden = tf.matmul(d_candidate, weights[1])
    d_gates = tf.concat([d_reset_hidden * to_reset, d_hidden * to_update], axis=1)
    d_previous = d_hidden * update + d_reset_hidden * reset + tf.matmul(d_gates, weights[0])
    return (d_previous,), (d_gates, d_candidate)

  def product_inputs(self, previous: tuple, saved: Sequence) -> tuple:
    """List, for all steps at once, what each kernel's state rows were multiplied with, [time, batch, hidden]."""
    return previous[0], saved[0][:, :, : self.hidden_size] * previous[0]


class Lstm(NamedTuple):
  """The LSTM cell without peepholes; 1.0 is added to the forget gate."""

  hidden_size: int

  @property
  def kernels(self) -> dict[str, tuple[int, float]]:
    """Name the kernel's scope (none of its own) with the number of columns and its bias at the start."""
    return {"": (4 * self.hidden_size, 0.0)}

  @property
  def saved_columns(self) -> list[int]:
    """Count the columns of what `step` keeps: the four activated sums."""
    return [self.hidden_size] * 4

  def zero_state(self, batch_size: "tf.Tensor", dtype: "tf.DType") -> tuple:
    """Start with an empty output and an empty cell."""
    return (tf.zeros([batch_size, self.hidden_size], dtype),) * 2

  def step(self, projected: Sequence, state: tuple, weights: Sequence) -> tuple:
    """Advance one step; state is (output, cell), the columns are input, new, forget, output."""
    hidden, cell = state
    sums = tf.split(projected[0] + tf.matmul(hidden, weights[0]), 4, axis=1)
    enter, new, keep, leave = tf.sigmoid(sums[0]), tf.tanh(sums[1]), tf.sigmoid(sums[2] + 1.0), tf.sigmoid(sums[3])
    cell = cell * keep + enter * new
    return (tf.tanh(cell) * leave, cell), (enter, new, keep, leave)

  def factors(self, previous: tuple, state: tuple, saved: Sequence) -> tuple:
    """Compute for all steps at once what `step_gradient` multiplies with; see `Gru.factors`."""
    enter, new, keep, leave = saved
    squashed = tf.tanh(state[1])
    to_sums = (
      new * enter * (1 - enter),
      enter * (1 - new * new),
      previous[1] * keep * (1 - keep),
      squashed * leave * (1 - leave),
    )
    return (*to_sums, leave * (1 - squashed * squashed), keep)

  def step_gradient(self, d_state: tuple, factors: Sequence, weights: Sequence) -> tuple:
    """Go one step back; see `Gru.step_gradient`."""
    (d_hidden, d_cell), (*to_sums, to_cell, keep) = d_state, factors
    d_cell += d_hidden * to_cell
    d_sums = tf.concat([d_cell * factor for factor in to_sums[:3]] + [d_hidden * to_sums[3]], axis=1)
    return (tf.matmul(d_sums, weights[0]), d_cell * keep), (d_sums,)

  def product_inputs(self, previous: tuple, saved: Sequence) -> tuple:
    """List what the kernel's state rows were multiplied with: the outputs of the steps before."""
    return previous[:1]


class Rnn(NamedTuple):
  """The plain recurrent cell with tanh."""

  hidden_size: int

  @property
  def kernels(self) -> dict[str, tuple[int, float]]:
    """Name the kernel's scope (none of its own) with the number of columns and its bias at the start."""
    return {"": (self.hidden_size, 0.0)}

  @property
  def saved_columns(self) -> list[int]:
    """Count the columns of what `step` keeps: nothing beyond the state."""
    return []

  def zero_state(self, batch_size: "tf.Tensor", dtype: "tf.DType") -> tuple:
    """Start with an empty output."""
    return (tf.zeros([batch_size, self.hidden_size], dtype),)

  def step(self, projected: Sequence, state: tuple, weights: Sequence) -> tuple:
    """Advance one step."""
    return (tf.tanh(projected[0] + tf.matmul(state[0], weights[0])),), ()

  def factors(self, previous: tuple, state: tuple, saved: Sequence) -> tuple:
    """Compute for all steps at once what `step_gradient` multiplies with; see `Gru.factors`."""
    return (1 - state[0] * state[0],)

  def step_gradient(self, d_state: tuple, factors: Sequence, weights: Sequence) -> tuple:
    """Go one step back; see `Gru.step_gradient`."""
    d_sum = d_state[0] * factors[0]
    return (tf.matmul(d_sum, weights[0]),), (d_sum,)

  def product_inputs(self, previous: tuple, saved: Sequence) -> tuple:
    """List what the kernel's state rows were multiplied with: the outputs of the steps before."""
    return previous


SUPPORTED_RNNS: dict[str, Callable] = {"lstm": Lstm, "rnn": Rnn, "gru": Gru}


class Direction(NamedTuple):
  """One direction of a layer: its projected inputs [time, batch, columns] and its state rows [hidden, columns]."""

  is_backward: bool
  projected: Sequence
  weights: Sequence

  def time(self, step: "tf.Tensor", num_steps: "tf.Tensor") -> "tf.Tensor":
    """Translate the loop's step into the time that this direction is at."""
    return num_steps - 1 - step if self.is_backward else step

  def before(self, states: "tf.Tensor") -> "tf.Tensor":
    """Shift states [time, batch, hidden] so that each time finds the state that it started from."""
    nothing = tf.zeros_like(states[:1])
    return tf.concat([states[1:], nothing] if self.is_backward else [nothing, states[:-1]], axis=0)


def rnn_layer(
  inputs: "tf.Tensor",
  lengths: "tf.Tensor",
  rnn_type: str,
  hidden_size: int,
  layer_id: int,
  is_bidirectional: bool,
  mask: "tf.Tensor | None" = None,
) -> tuple["tf.Tensor", "tf.Tensor"]:
  """Run one recurrent layer over a batch.

  Args:
    inputs: [time, batch, depth].
    lengths: [batch], the real time steps.
    rnn_type: a name of SUPPORTED_RNNS.
    hidden_size: the cell's size.
    layer_id: the layer's number, from 1 on; part of the variables' names.
    is_bidirectional: whether a second cell runs from the end to the beginning.
    mask: [time, batch, 1], 1 where a step is real; None takes every step for real.

  Returns:
    Outputs [time, batch, hidden or 2 * hidden], zero outside the mask, and the lengths.
  """
  cell = SUPPORTED_RNNS[rnn_type](hidden_size)
  names = [f"bidirectional_rnn/{side}/rnn_{side}_{layer_id}" for side in ("fw", "bw")]
  directions = []
  for scope in names if is_bidirectional else [f"rnn/rnn_fw_{layer_id}"]:
    with tf.compat.v1.variable_scope(scope):
      projected, weights = _project(cell, inputs)
    directions.append(Direction(len(directions) == 1, projected, weights))
  return tf.concat(unroll(cell, directions, mask), axis=2), lengths


def _project(cell, inputs) -> tuple[list, list]:
  """Make a cell's variables and multiply all inputs with their rows of the kernels.

  Args:
    cell: an entry of SUPPORTED_RNNS with its size.
    inputs: [time, batch, depth].

  Returns:
    For each kernel the product plus bias, [time, batch, columns], and the kernel's rows for the state.
  """
  depth = inputs.shape[2]
  projected, weights = [], []
  for prefix, (columns, bias_start) in cell.kernels.items():
    kernel = tf.compat.v1.get_variable(f"{prefix}kernel", [depth + cell.hidden_size, columns], inputs.dtype)
    bias = tf.compat.v1.get_variable(
      f"{prefix}bias", [columns], inputs.dtype, tf.compat.v1.constant_initializer(bias_start)
    )
    input_rows, state_rows = tf.split(kernel, [depth, cell.hidden_size], axis=0)
    flat = tf.matmul(tf.reshape(inputs, [-1, depth]), input_rows) + bias
    projected.append(tf.reshape(flat, tf.concat([tf.shape(inputs)[:2], [columns]], axis=0)))
    weights.append(state_rows)
  return projected, weights


def unroll(cell: "Gru | Lstm | Rnn", directions: Sequence[Direction], mask: "tf.Tensor | None" = None) -> list:
  """Step all directions through time, with the hand-derived gradient.

  Args:
    cell: an entry of SUPPORTED_RNNS with its size.
    directions: one or two of them, over the same time and batch.
    mask: [time, batch, 1] or None.

  Returns:
    For each direction its outputs [time, batch, hidden].
  """
  template = [Direction(direction.is_backward, (), ()) for direction in directions]

  @tf.custom_gradient
  def run(*arguments):
    current = _fill(cell, template, arguments)
    states, saved = _forward_loop(cell, current, mask)

    def gradient(*d_outputs):
      return _backward_loop(cell, current, mask, states, saved, d_outputs)

    return [each[0] for each in states], gradient

  return run(*[tensor for each in directions for tensor in (*each.projected, *each.weights)])


def _fill(cell, template: Sequence[Direction], arguments: Sequence) -> list[Direction]:
  """Put a flat list of tensors back into directions."""
  count = len(cell.kernels)
  parts = [arguments[start : start + count] for start in range(0, len(arguments), count)]
  return [each._replace(projected=parts[2 * i], weights=parts[2 * i + 1]) for i, each in enumerate(template)]


def _halves(tensor) -> tuple:
  """Cut the last axis in two; slices are copied by one thread, tf.split makes all of them meet."""
  size = tensor.shape[-1] // 2
  return tensor[..., :size], tensor[..., size:]


def _at(tensors: Sequence, time) -> tuple:
  """Take one time step of tensors [time, ...]."""
  return tuple(tensor[time] for tensor in tensors)


def _loop(num_steps, dtype, body: Callable, state: list, widths: Sequence[Sequence[int]]) -> list[list]:
  """Run a loop over time that carries a state a direction and records tensors.

  Args:
    num_steps: how many steps, a scalar.
    dtype: of everything recorded.
    body: (step, direction number, that direction's state) -> (time, new state, tensors to record).
    state: for each direction a tuple of [batch, hidden].
    widths: for each direction the columns of each recorded tensor.

  Returns:
    For each direction the recorded tensors, [time, batch, columns].
  """
  batch_size = state[0][0].shape[0]
  arrays = [
    [tf.TensorArray(dtype, num_steps, element_shape=[batch_size, width]) for width in columns] for columns in widths
  ]

  def advance(step, state, arrays):
    results = [body(step, number, each) for number, each in enumerate(state)]
    arrays = [
      [array.write(time, tensor) for array, tensor in zip(row, tensors, strict=True)]
      for row, (time, _, tensors) in zip(arrays, results, strict=True)
    ]
    return step + 1, [new_state for _, new_state, _ in results], arrays

  _, _, arrays = tf.while_loop(lambda step, *_: step < num_steps, advance, [tf.constant(0), state, arrays])
  return [[array.stack() for array in row] for row in arrays]


def _forward_loop(cell, directions: Sequence[Direction], mask) -> tuple[list, list]:
  """Compute all steps.

  Returns:
    For each direction the states and the kept activations, as tuples of [time, batch, columns].
  """
  first = directions[0].projected[0]
  num_steps = tf.shape(first)[0]
  zero_state = cell.zero_state(tf.shape(first)[1], first.dtype)

  def body(step, number, state):
    direction = directions[number]
    time = direction.time(step, num_steps)
    state, saved = cell.step(_at(direction.projected, time), state, direction.weights)
    if mask is not None:
      state = tuple(each * mask[time] for each in state)
    return time, state, (*state, *saved)

  widths = [cell.hidden_size] * len(zero_state) + cell.saved_columns
  records = _loop(num_steps, first.dtype, body, [zero_state for _ in directions], [widths] * len(directions))
  count = len(zero_state)
  return [tuple(each[:count]) for each in records], [tuple(each[count:]) for each in records]


def _backward_loop(cell, directions: Sequence[Direction], mask, states, saved, d_outputs) -> list:
  """Compute the gradients of everything that `unroll` was given, in its order.

  Args:
    cell: an entry of SUPPORTED_RNNS with its size.
    directions: as in `unroll`.
    mask: as in `unroll`.
    states: from `_forward_loop`.
    saved: from `_forward_loop`.
    d_outputs: for each direction the gradient of its outputs, [time, batch, hidden].

  Returns:
    For each direction the gradients of its projected inputs, then of its weights.
  """
  num_steps = tf.shape(d_outputs[0])[0]
  zero_state = cell.zero_state(tf.shape(d_outputs[0])[1], d_outputs[0].dtype)
  # Transposed once here: inside the loop a transposed product is several times slower.
  transposed = [[tf.transpose(weight) for weight in each.weights] for each in directions]
  previous = [tuple(each.before(state) for state in states[i]) for i, each in enumerate(directions)]
  factors = [cell.factors(*each) for each in zip(previous, states, saved, strict=True)]
  if mask is not None:
    # Every path back through a step that is not real goes through one of these.
    factors = [tuple(factor * mask for factor in each) for each in factors]

  def body(step, number, d_state):
    time = directions[number].time(num_steps - 1 - step, num_steps)
    d_state = (d_state[0] + d_outputs[number][time], *d_state[1:])
    d_state, d_projected = cell.step_gradient(d_state, _at(factors[number], time), transposed[number])
    return time, d_state, d_projected

  widths = [columns for columns, _ in cell.kernels.values()]
  d_projected = _loop(num_steps, d_outputs[0].dtype, body, [zero_state for _ in directions], [widths] * len(directions))
  gradients = []
  for number, d_sums in enumerate(d_projected):
    gradients += d_sums
    factors = cell.product_inputs(previous[number], saved[number])
    gradients += [_weight_gradient(factor, d_sum) for factor, d_sum in zip(factors, d_sums, strict=True)]
  return gradients


def _weight_gradient(factor, d_sum):
  """Multiply over time and batch at once: [time, batch, hidden] and [time, batch, columns] to [hidden, columns]."""
  flat = [tf.reshape(tensor, [-1, tensor.shape[2]]) for tensor in (factor, d_sum)]
  return tf.matmul(flat[0], flat[1], transpose_a=True)
