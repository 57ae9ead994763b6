"""Products of a few rows with a matrix that stays the same, as the steps of a recurrent layer need them."""

from collections.abc import Sequence
from typing import NamedTuple

from layers import variables
from official_utils.lazy import tf

# A matrix in half precision is rearranged for the processor at every product. In pieces of this size that happens in its
# near cache: [8, 800] by [800, 1600] takes two thirds of the time in two halves.
_PIECE_BYTES = 3 * 2**19


class Factor(NamedTuple):
  """The right factor of such products.

  Attributes:
    pieces: the matrix cut by columns, each piece [depth, columns of it].
    is_transposed: whether to multiply with the transposed matrix.
  """

  pieces: list["tf.Tensor"]
  is_transposed: bool = False

  def multiply(self, rows: "tf.Tensor") -> "tf.Tensor":
    """Multiply rows [rows, depth] in the matrix's number format; return [rows, columns] in that of the rows."""
    narrow = tf.cast(rows, self.pieces[0].dtype)
    if not self.is_transposed:
      products = [tf.matmul(narrow, piece) for piece in self.pieces]
      return tf.cast(products[0] if len(products) == 1 else tf.concat(products, axis=1), rows.dtype)
    size = self.pieces[0].shape[1]
    products = [
      tf.matmul(narrow[:, size * number : size * (number + 1)], piece, transpose_b=True)
      for number, piece in enumerate(self.pieces)
    ]
    return tf.add_n([tf.cast(product, rows.dtype) for product in products])


def prepare(weights: Sequence["tf.Tensor"], are_cut: bool = True) -> list["Factor | tf.Tensor"]:
  """Make factors of the matrices among a cell's weights; biases get the number format of states.

  Args:
    weights: matrices [depth, columns] and biases [columns].
    are_cut: whether to cut large matrices, as suits processors.
  """
  make = _cut if are_cut else lambda matrix: Factor([matrix])
  return [
    make(weight) if weight.shape.rank == 2 else tf.cast(weight, variables.stored_dtype(weight.dtype))
    for weight in weights
  ]


def transpose(prepared: Sequence["Factor | tf.Tensor"]) -> list["Factor | tf.Tensor"]:
  """Turn what `prepare` returns into the same for the transposed matrices."""
  return [_transpose(each) if isinstance(each, Factor) else each for each in prepared]


def _cut(matrix: "tf.Tensor") -> Factor:
  """Cut a matrix in half precision in half until its pieces are small; leave any other whole."""
  pieces = [matrix]
  while variables.is_half(matrix.dtype) and _num_bytes(pieces[0]) > _PIECE_BYTES and not pieces[0].shape[1] % 2:
    pieces = [half for piece in pieces for half in tf.split(piece, 2, axis=1)]
  return Factor(pieces)


def _transpose(factor: Factor) -> Factor:
  """Transpose a factor."""
  if len(factor.pieces) > 1:
    return factor._replace(is_transposed=True)
  # Once, because a product that transposes its factor is slower: in single precision several times.
  return Factor([tf.transpose(factor.pieces[0])])


def _num_bytes(matrix: "tf.Tensor") -> int:
  """Count the bytes of a matrix."""
  return matrix.shape.num_elements() * matrix.dtype.size
