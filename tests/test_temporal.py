"""Holds convolutions over time of packed rows against plain loops."""

import numpy as np
import pytest

from layers import packing, temporal
from official_utils.lazy import tf

LENGTHS = [7, 12, 0, 3]
SPECS = [
  temporal.TimeSpec(kernel_size, dilation, is_causal)
  for kernel_size, dilation in ((1, 1), (2, 1), (3, 1), (2, 3), (3, 4), (4, 2), (5, 9))
  for is_causal in (True, False)
]


def plain_convolution(inputs: np.ndarray, kernel: np.ndarray, spec: temporal.TimeSpec) -> np.ndarray:
  """Convolve one utterance, [time, depth] to [time, filters]: padded with zeros as published, tap by tap."""
  zeros = (spec.kernel_size - 1) * spec.dilation
  before = zeros if spec.is_causal else zeros // 2
  padded = np.pad(inputs, [(before, zeros - before), (0, 0)])
  taps = (padded[number * spec.dilation :][: len(inputs)] @ tap for number, tap in enumerate(kernel))
  return sum(taps)


def convolve(inputs, kernel, spec, lengths, dtype=None):
  """Convolve a padded batch [batch, time, depth] as rows; return [batch, time, filters]."""
  dtype = dtype or inputs.dtype
  batch = packing.plan(tf.constant(lengths), inputs.shape[1])
  rows = packing.pack(tf.cast(inputs, dtype), batch)
  return packing.unpack(temporal.convolve(rows, batch, tf.cast(kernel, dtype), spec.offsets), batch)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_convolution_equals_a_plain_loop(spec):
  rng = np.random.default_rng(1)
  inputs, kernel = rng.normal(size=[4, 13, 2]), rng.normal(size=[spec.kernel_size, 2, 3])
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    outputs = session.run(convolve(tf.constant(inputs), tf.constant(kernel), spec, LENGTHS))
  for length, part, result in zip(LENGTHS, inputs, outputs, strict=True):
    np.testing.assert_allclose(result[:length], plain_convolution(part[:length], kernel, spec), atol=1e-12)
    assert not result[length:].any()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_gradients_are_those_of_a_product(spec):
  """Outputs are linear in the inputs and in the kernel, so the gradient by either gives its part in any output."""
  rng = np.random.default_rng(2)
  shapes = [4, 13, 2], [spec.kernel_size, 2, 3]
  (inputs, kernel), (other_inputs, other_kernel) = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))
  weights = rng.normal(size=[4, 13, 3])
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    of = [tf.constant(inputs), tf.constant(kernel)]
    gradients = session.run(tf.gradients(convolve(*of, spec, LENGTHS), of, tf.constant(weights)))
    with_other_inputs = session.run(convolve(tf.constant(other_inputs), of[1], spec, LENGTHS))
    with_other_kernel = session.run(convolve(of[0], tf.constant(other_kernel), spec, LENGTHS))
  assert np.sum(gradients[0] * other_inputs) == pytest.approx(np.sum(with_other_inputs * weights))
  assert np.sum(gradients[1] * other_kernel) == pytest.approx(np.sum(with_other_kernel * weights))


@pytest.mark.parametrize(
  ("kernel_size", "dilation", "last_values"),
  [(2, 1, [59, 116]), (3, 1, [87, 252]), (2, 2, [58, 112]), (2, 3, [57, 108])],
)
def test_causal_convolutions_with_ones_end_with_the_published_values(kernel_size, dilation, last_values):
  spec, kernel = temporal.TimeSpec(kernel_size, dilation, is_causal=True), tf.ones([kernel_size, 1, 1])
  counted = tf.reshape(tf.range(1.0, 31.0), [1, 30, 1])
  once = convolve(counted, kernel, spec, [30])
  twice = convolve(once, kernel, spec, [30])
  assert [float(values[0, -1, 0]) for values in (once, twice)] == last_values


# Numbers have 11 bits in the one format and 8 in the other: what is allowed are ten units in the last place.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 10 * 2**-11), ("bfloat16", 10 * 2**-8)])
def test_half_precision_comes_close(dtype, tolerance):
  rng, spec = np.random.default_rng(3), temporal.TimeSpec(3, 2, is_causal=False)
  fetches = []
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    of = [tf.constant(rng.normal(size=shape), tf.float32) for shape in ([4, 13, 8], [3, 8, 6])]
    for compute_dtype in (tf.float32, tf.as_dtype(dtype)):
      outputs = convolve(*of, spec, LENGTHS, compute_dtype)
      assert outputs.dtype == compute_dtype
      outputs = tf.cast(outputs, tf.float32)
      fetches.append([outputs, *tf.gradients(tf.reduce_sum(tf.square(outputs)), of)])
    exact, close = session.run(fetches)
  for left, right in zip(exact, close, strict=True):
    assert 0 < np.linalg.norm(left - right) / np.linalg.norm(left) < tolerance


def test_a_gated_convolution_multiplies_a_tanh_with_a_sigmoid():
  rng, spec = np.random.default_rng(4), temporal.TimeSpec(3, 2, is_causal=True)
  inputs = rng.normal(size=[1, 9, 4])
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    batch = packing.plan(tf.constant([9]), 9)
    outputs = temporal.gated_conv(tf.constant(inputs[0]), batch, 5, spec)
    values = {variable.op.name: rng.normal(size=variable.shape) for variable in tf.compat.v1.trainable_variables()}
    for variable in tf.compat.v1.trainable_variables():
      variable.load(values[variable.op.name], session)
    result = session.run(outputs)
  assert {name: value.shape for name, value in values.items()} == {
    "filter/kernel": (3, 4, 5),
    "filter/bias": (5,),
    "gate/kernel": (3, 4, 5),
    "gate/bias": (5,),
  }
  signal, gate = (
    plain_convolution(inputs[0], values[f"{name}/kernel"], spec) + values[f"{name}/bias"] for name in ("filter", "gate")
  )
  np.testing.assert_allclose(result, np.tanh(signal) / (1 + np.exp(-gate)), atol=1e-12)


def test_first_values_are_glorots_and_zeros():
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    rows, batch = tf.zeros([0, 64]), packing.plan(tf.constant([0]), 5)
    temporal.gated_conv(rows, batch, 32, temporal.TimeSpec(5, 1, is_causal=True))
    temporal.pointwise_conv(rows, 32, "point")
    session.run(tf.compat.v1.global_variables_initializer())
    values = session.run({variable.op.name: variable for variable in tf.compat.v1.trainable_variables()})
  for name in ("filter", "gate", "point"):
    frames = 1 if name == "point" else 5
    # A uniform distribution ends at the square root of 3 times its deviation, and the normal one at twice its own.
    deviation = np.sqrt(2 / (frames * (64 + 32)))
    assert values[f"{name}/kernel"].std() == pytest.approx(deviation, rel=0.05)
    edge = np.abs(values[f"{name}/kernel"]).max() / deviation
    assert edge <= np.sqrt(3) if name == "point" else 2 < edge < 2.3
    assert not values[f"{name}/bias"].any()


def test_a_pointwise_convolution_is_an_affine_map():
  inputs = np.random.default_rng(5).normal(size=[6, 3])
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    outputs = temporal.pointwise_conv(tf.constant(inputs), 2, "point")
    session.run(tf.compat.v1.global_variables_initializer())
    kernel, bias = tf.compat.v1.trainable_variables()
    bias.load([3.0, -1.0], session)
    result, kernel = session.run([outputs, kernel])
  np.testing.assert_allclose(result, inputs @ kernel + [3, -1], atol=1e-12)
