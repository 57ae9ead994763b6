"""The recurrent cells: their variables, their step, and the parts of their hand-derived gradient."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from layers import variables
from layers.activations import ACTIVATIONS, Activation
from official_utils.lazy import tf


@dataclass(frozen=True)
class Cell(abc.ABC):
  """The base of all cells, with kernels that inputs and state share.

  Attributes:
    hidden_size: the size of a state.
    activation: a name of ACTIVATIONS for what a step brings in and, if it is a part of the cell, for its output.
    gate_activation: a name of ACTIVATIONS for the gates.
    init: how the variables begin: "glorot" as in the original, or "orthogonal" with glorot rows for the inputs,
      orthogonal rows for the state and biases of zero.
    kernels: for each kernel's scope, its columns in units of the hidden size and the initial value of its bias.
    num_states: tensors of a state; the first is the output.
    saved_widths: columns of the tensors that `step` keeps, in units of the hidden size.
    recorded_widths: columns of the tensors that `step_gradient` records, in units of the hidden size.
  """

  hidden_size: int
  activation: str = "tanh"
  gate_activation: str = "sigmoid"
  init: str = "glorot"
  kernels: ClassVar[Mapping[str, tuple[int, float]]]
  num_states: ClassVar[int] = 1
  saved_widths: ClassVar[Sequence[int]]
  recorded_widths: ClassVar[Sequence[int]]

  @property
  def squash(self) -> Activation:
    """The activation of what a step brings in."""
    return ACTIVATIONS[self.activation]

  @property
  def gate(self) -> Activation:
    """The activation of the gates."""
    return ACTIVATIONS[self.gate_activation]

  def variables(self, depth: int) -> dict[str, tuple[list[int], Any]]:
    """List the variables with their shapes and initial values.

    Args:
      depth: the size of the inputs.

    Returns:
      For each name the shape, and a number, an initializer, or None, which leaves the value to TensorFlow.
    """
    shapes: dict[str, tuple[list[int], Any]] = {}
    for prefix, (columns, bias_start) in self.kernels.items():
      shapes[f"{prefix}kernel"] = self._kernel(depth, self.hidden_size, columns)
      shapes[f"{prefix}bias"] = ([columns * self.hidden_size], bias_start if self.init == "glorot" else 0.0)
    return shapes

  def _kernel(self, depth: int, state_rows: int, columns: int = 1) -> tuple[list[int], Any]:
    """Return shape and initial value of a kernel with rows for inputs and state."""
    start = variables.Drawn(partial(_draw_kernel, depth)) if self.init == "orthogonal" else None
    return [depth + state_rows, columns * self.hidden_size], start

  def project(self, inputs: "tf.Tensor", values: Mapping[str, "tf.Tensor"]) -> tuple[list, list]:
    """Multiply all inputs with their rows of the kernels.

    Args:
      inputs: [rows, depth].
      values: the variables' values.

    Returns:
      For each kernel the product plus bias, [rows, columns], and the factor of the state, [hidden, columns].
    """
    projected, weights = [], []
    for prefix in self.kernels:
      input_rows, state_rows = split_kernel(values[f"{prefix}kernel"], inputs.shape[1])
      projected.append(tf.matmul(inputs, input_rows) + values[f"{prefix}bias"])
      weights.append(state_rows)
    return projected, weights

  @abc.abstractmethod
  def step(self, projected: Sequence, state: Sequence, weights: Sequence) -> tuple:
    """Advance one step; see `Gru.step`."""

  @abc.abstractmethod
  def factors(self, previous: Sequence, state: Sequence, saved: Sequence) -> tuple:
    """Compute for all steps at once what `step_gradient` multiplies with; see `Gru.factors`."""

  @abc.abstractmethod
  def step_gradient(self, d_state: Sequence, factors: Sequence, weights: Sequence) -> tuple:
    """Go one step back; see `Gru.step_gradient`."""

  def gradients(self, recorded: Sequence, previous: Sequence, saved: Sequence) -> tuple[Sequence, Sequence]:
    """Compute the gradients of the projected inputs and of the state's weights, for all steps at once.

    Args:
      recorded: the tensors that `step_gradient` recorded, [rows, columns]: here the gradients of the kernels' products.
      previous: the states before each step, [rows, hidden].
      saved: the tensors that `step` kept, [rows, columns].

    Returns:
      The gradients of the two results of `project`, in the number format of what was recorded.
    """
    factors = self.product_inputs(previous, saved)
    return recorded, [_sum_products(factor, d_sum) for factor, d_sum in zip(factors, recorded, strict=True)]

  def product_inputs(self, previous: Sequence, saved: Sequence) -> Sequence:
    """List the factors of each kernel's state rows, [rows, hidden], for all steps at once."""
    return previous[:1]


class Gru(Cell):
  """The GRU cell whose reset gate acts on the state before the product."""

  kernels = {"gates/": (2, 1.0), "candidate/": (1, 0.0)}
  saved_widths = (2, 1)
  recorded_widths = (2, 1)

  def step(self, projected: Sequence, state: Sequence, weights: Sequence) -> tuple:
    """Advance one step.

    Args:
      projected: gates [batch, 2 * hidden] and candidate [batch, hidden], the inputs' part of the products.
      state: the output of the previous step, [batch, hidden].
      weights: the state's rows of both kernels, [hidden, 2 * hidden] and [hidden, hidden], as `products.prepare` returns them.

    Returns:
      The new state, and the activated gates and candidate, which the gradient needs.
    """
    (hidden,) = state
    gates = self.gate.apply(projected[0] + weights[0].multiply(hidden))
    reset, update = _halves(gates)
    candidate = self.squash.apply(projected[1] + weights[1].multiply(reset * hidden))
    return (candidate + update * (hidden - candidate),), (gates, candidate)

  def factors(self, previous: Sequence, state: Sequence, saved: Sequence) -> tuple:
    """Compute the factors of `step_gradient` for all steps at once.

    Args:
      previous: the states before each step, [rows, hidden].
      state: the states after each step.
      saved: the tensors that `step` kept, [rows, columns].

    Returns:
      Tensors [rows, hidden].
    """
    (hidden,), (gates, candidate) = previous, saved
    reset, update = _halves(gates)
    to_candidate = self.squash.chain(candidate, 1 - update)
    to_update = self.gate.chain(update, hidden - candidate)
    return to_candidate, to_update, self.gate.chain(reset, hidden), update, reset

  def step_gradient(self, d_state: Sequence, factors: Sequence, weights: Sequence) -> tuple:
    """Go one step back.

    Args:
      d_state: the gradient of this step's state, [batch, hidden].
      factors: from `factors`, at this step.
      weights: the weights of `step`, as `products.transpose` returns them.

    Returns:
      The gradient of the previous state, and the gradients of both products, which `gradients` needs.
    """
    (d_hidden,), (to_candidate, to_update, to_reset, update, reset) = d_state, factors
    d_candidate = d_hidden * to_candidate
    d_reset_hidden = weights[1].multiply(d_candidate)
    d_gates = tf.concat([d_reset_hidden * to_reset, d_hidden * to_update], axis=1)
    d_previous = d_hidden * update + d_reset_hidden * reset + weights[0].multiply(d_gates)
    return (d_previous,), (d_gates, d_candidate)

  def product_inputs(self, previous: Sequence, saved: Sequence) -> Sequence:
    """List the factors of each kernel's state rows."""
    return previous[0], _halves(saved[0])[0] * previous[0]


class GruResetAfter(Cell):
  """The GRU cell of cuDNN: the reset gate acts on the product with the state, which has its own bias.

  The variables have the names of TensorFlow's CudnnCompatibleGRUCell.
  """

  kernels = {"gates/": (2, 1.0)}
  saved_widths = (2, 1, 1)
  recorded_widths = (3, 1)

  def variables(self, depth: int) -> dict[str, tuple[list[int], Any]]:
    """List the variables with their shapes and initial values; see `Cell.variables`."""
    shapes = super().variables(depth)
    for part, rows in (("input", (depth, 0)), ("hidden", (0, self.hidden_size))):
      shapes[f"candidate/{part}_projection/kernel"] = self._kernel(*rows)
      shapes[f"candidate/{part}_projection/bias"] = ([self.hidden_size], 0.0)
    return shapes

  def project(self, inputs: "tf.Tensor", values: Mapping[str, "tf.Tensor"]) -> tuple[list, list]:
    """Multiply all inputs; the state is multiplied with one matrix [hidden, 3 * hidden] and has a bias [hidden]."""
    (gates,), (gate_rows,) = super().project(inputs, values)
    kernels, biases = (
      [values[f"candidate/{part}_projection/{kind}"] for part in ("input", "hidden")] for kind in ("kernel", "bias")
    )
    return [gates, tf.matmul(inputs, kernels[0]) + biases[0]], [tf.concat([gate_rows, kernels[1]], axis=1), biases[1]]

  def step(self, projected: Sequence, state: Sequence, weights: Sequence) -> tuple:
    """Advance one step; see `Gru.step`. Also keeps the candidate's product with the state."""
    (hidden,) = state
    sums = weights[0].multiply(hidden)
    gates = self.gate.apply(projected[0] + sums[:, : 2 * self.hidden_size])
    reset, update = _halves(gates)
    product = sums[:, 2 * self.hidden_size :] + weights[1]
    candidate = self.squash.apply(projected[1] + reset * product)
    return (candidate + update * (hidden - candidate),), (gates, candidate, product)

  def factors(self, previous: Sequence, state: Sequence, saved: Sequence) -> tuple:
    """Compute the factors of `step_gradient`, [rows, 3 * hidden] and [rows, hidden], for all steps at once."""
    (hidden,), (gates, candidate, product) = previous, saved
    reset, update = _halves(gates)
    to_candidate = self.squash.chain(candidate, 1 - update)
    to_reset = self.gate.chain(reset, to_candidate, product)
    to_update = self.gate.chain(update, hidden - candidate)
    return tf.concat([to_reset, to_update, reset * to_candidate], axis=1), update

  def step_gradient(self, d_state: Sequence, factors: Sequence, weights: Sequence) -> tuple:
    """Go one step back; see `Gru.step_gradient`. Records the gradients of the product and of the state itself."""
    (d_hidden,), (to_sums, update) = d_state, factors
    d_sums = tf.concat([d_hidden] * 3, axis=1) * to_sums
    return (d_hidden * update + weights[0].multiply(d_sums),), (d_sums, d_hidden)

  def gradients(self, recorded: Sequence, previous: Sequence, saved: Sequence) -> tuple[Sequence, Sequence]:
    """Compute the gradients of the projected inputs and of the state's weights; see `Cell.gradients`."""
    (d_sums, d_hidden), (gates, candidate, _) = recorded, saved
    d_gates, d_product = d_sums[:, : 2 * self.hidden_size], d_sums[:, 2 * self.hidden_size :]
    to_candidate = self.squash.chain(candidate, 1 - _halves(gates)[1])
    d_candidate = d_hidden * tf.cast(to_candidate, d_hidden.dtype)
    return (d_gates, d_candidate), (_sum_products(previous[0], d_sums), tf.reduce_sum(d_product, axis=0))


class Lstm(Cell):
  """The LSTM cell without peepholes; 1.0 is added to the forget gate. A state is (output, cell)."""

  kernels = {"": (4, 0.0)}
  num_states = 2
  saved_widths = (1, 1, 1, 1)
  recorded_widths = (4,)

  def step(self, projected: Sequence, state: Sequence, weights: Sequence) -> tuple:
    """Advance one step; the columns are input, new, forget, output."""
    hidden, cell = state
    sums = tf.split(projected[0] + weights[0].multiply(hidden), 4, axis=1)
    enter, keep, leave = (self.gate.apply(each) for each in (sums[0], sums[2] + 1.0, sums[3]))
    new = self.squash.apply(sums[1])
    cell = cell * keep + enter * new
    return (self.squash.apply(cell) * leave, cell), (enter, new, keep, leave)

  def factors(self, previous: Sequence, state: Sequence, saved: Sequence) -> tuple:
    """Compute the factors of `step_gradient` for all steps at once; see `Gru.factors`."""
    enter, new, keep, leave = saved
    squashed = self.squash.apply(state[1])
    to_sums = (
      self.gate.chain(enter, new),
      self.squash.chain(new, enter),
      self.gate.chain(keep, previous[1]),
      self.gate.chain(leave, squashed),
    )
    return *to_sums, self.squash.chain(squashed, leave), keep

  def step_gradient(self, d_state: Sequence, factors: Sequence, weights: Sequence) -> tuple:
    """Go one step back; see `Gru.step_gradient`."""
    (d_hidden, d_cell), (*to_sums, to_cell, keep) = d_state, factors
    d_cell += d_hidden * to_cell
    d_sums = tf.concat([d_cell * factor for factor in to_sums[:3]] + [d_hidden * to_sums[3]], axis=1)
    return (weights[0].multiply(d_sums), d_cell * keep), (d_sums,)


class Rnn(Cell):
  """The plain recurrent cell, which has no gates."""

  kernels = {"": (1, 0.0)}
  saved_widths = ()
  recorded_widths = (1,)

  def step(self, projected: Sequence, state: Sequence, weights: Sequence) -> tuple:
    """Advance one step."""
    return (self.squash.apply(projected[0] + weights[0].multiply(state[0])),), ()

  def factors(self, previous: Sequence, state: Sequence, saved: Sequence) -> tuple:
    """Compute the factors of `step_gradient` for all steps at once; see `Gru.factors`."""
    return (self.squash.chain(state[0]),)

  def step_gradient(self, d_state: Sequence, factors: Sequence, weights: Sequence) -> tuple:
    """Go one step back; see `Gru.step_gradient`."""
    d_sum = d_state[0] * factors[0]
    return (weights[0].multiply(d_sum),), (d_sum,)


SUPPORTED_RNNS: dict[str, type[Cell]] = {"lstm": Lstm, "rnn": Rnn, "gru": Gru, "gru_reset_after": GruResetAfter}


def split_kernel(kernel: "tf.Tensor", depth: int) -> list["tf.Tensor"]:
  """Split a kernel into the inputs' rows and the state's rows."""
  return tf.split(kernel, [depth, kernel.shape[0] - depth], axis=0)


def _sum_products(states, d_sums):
  """Multiply states [rows, hidden] with gradients [rows, columns], in the gradients' number format, over all rows."""
  return tf.matmul(tf.cast(states, d_sums.dtype), d_sums, transpose_a=True)


def _halves(tensor: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
  """Split the last axis in two by slices, which one thread copies; for tf.split all threads wait for each other."""
  size = tensor.shape[-1] // 2
  return tensor[..., :size], tensor[..., size:]


def _draw_kernel(depth, shape, dtype, seed):
  """Draw glorot rows for inputs of a depth and orthogonal rows for the state, those of them that a kernel has."""
  # Another seed, or both would be made of the same random bits.
  state_seed = None if seed is None else seed + 1
  rows = [
    draw([size, shape[1]], dtype)
    for draw, size in (
      (tf.compat.v1.glorot_uniform_initializer(seed), depth),
      (tf.compat.v1.orthogonal_initializer(seed=state_seed), shape[0] - depth),
    )
    if size
  ]
  return tf.concat(rows, axis=0)
