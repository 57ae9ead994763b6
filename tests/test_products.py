"""Holds products with prepared matrices against numpy, whole and in pieces."""

import numpy as np
import pytest

from layers import products
from official_utils.lazy import tf

ROWS = np.random.default_rng(1).normal(size=[3, 6])
MATRIX = np.random.default_rng(2).normal(size=[6, 8])


@pytest.mark.parametrize(("piece_bytes", "num_pieces"), [(96, 1), (48, 2), (24, 4), (1, 8)])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_pieces_give_the_rounded_product(piece_bytes, num_pieces, is_transposed, monkeypatch):
  monkeypatch.setattr(products, "_PIECE_BYTES", piece_bytes)
  rows, matrix = tf.constant(ROWS, tf.float32), tf.constant(MATRIX, tf.bfloat16)
  (factor,) = products.prepare([matrix])
  assert len(factor.pieces) == num_pieces
  exact = np.float64(tf.cast(matrix, tf.float32))
  if is_transposed:
    (factor,), rows, exact = products.transpose([factor]), tf.concat([rows, rows[:, :2]], axis=1), exact.T
  product = factor.multiply(rows)
  assert product.dtype == tf.float32
  expected = np.float64(tf.cast(tf.cast(rows, tf.bfloat16), tf.float32)) @ exact
  # Each piece's product is rounded to 8 bits.
  np.testing.assert_allclose(product, expected, atol=len(factor.pieces) * np.abs(expected).max() * 2**-8)
  assert np.abs(product - expected).max() > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_in_single_and_double_precision_the_matrix_stays_whole_and_the_product_exact(dtype, monkeypatch):
  monkeypatch.setattr(products, "_PIECE_BYTES", 1)
  rows, matrix = tf.constant(ROWS.astype(dtype)), tf.constant(MATRIX.astype(dtype))
  prepared = products.prepare([matrix])
  assert [len(factor.pieces) for factor in prepared] == [1]
  np.testing.assert_array_equal(prepared[0].multiply(rows), tf.matmul(rows, matrix))
  (transposed,) = products.transpose(prepared)
  np.testing.assert_allclose(transposed.multiply(tf.matmul(rows, matrix)), ROWS @ MATRIX @ MATRIX.T, rtol=1e-4)


def test_an_odd_number_of_columns_is_not_cut(monkeypatch):
  monkeypatch.setattr(products, "_PIECE_BYTES", 1)
  (factor,) = products.prepare([tf.zeros([4, 6], tf.float16)])
  assert [piece.shape.as_list() for piece in factor.pieces] == [[4, 3], [4, 3]]


def test_the_default_networks_gates_are_cut_in_two():
  gates, candidate = products.prepare([tf.zeros([800, 1600], tf.bfloat16), tf.zeros([800, 800], tf.bfloat16)])
  assert (len(gates.pieces), len(candidate.pieces)) == (2, 1)


def test_a_bias_gets_the_states_number_format_and_is_never_transposed():
  bias = tf.constant([1.5, 2.5], tf.bfloat16)
  (prepared,) = products.prepare([bias])
  assert prepared.dtype == tf.float32
  np.testing.assert_array_equal(products.transpose([prepared])[0], [1.5, 2.5])
