"""Holds convolution and lengths against plain loops and the original's shapes."""

import fixture_files
import numpy as np
import pytest

import deep_speech_model
import networks
from layers import convolution
from official_utils.lazy import tf
from settings import DeepSpeech2Settings


def naive_convolution(inputs, kernel, spec):
  pads = [(0, 0), (spec.padding[0],) * 2, (spec.padding[1],) * 2, (0, 0)]
  padded = np.pad(inputs, pads)
  times, bins = (convolution.output_size(inputs.shape[axis + 1], spec, axis) for axis in (0, 1))
  outputs = np.zeros([inputs.shape[0], times, bins, kernel.shape[3]])
  for time in range(times):
    for row in range(bins):
      start = (time * spec.strides[0], row * spec.strides[1])
      window = padded[:, start[0] : start[0] + kernel.shape[0], start[1] : start[1] + kernel.shape[1]]
      outputs[:, time, row] = np.tensordot(window, kernel, 3)
  return outputs


@pytest.mark.parametrize("layout", list(deep_speech_model.CONV_LAYOUTS))
@pytest.mark.parametrize("number", [0, 1])
def test_convolution_equals_a_plain_loop(layout, number):
  spec = deep_speech_model.CONV_LAYOUTS[layout][number]._replace(filters=3)
  generator = np.random.default_rng(number)
  inputs = generator.normal(size=[2, 23, 19, 2])
  with tf.Graph().as_default():
    outputs, lengths = convolution.conv_layer(tf.constant(inputs), tf.constant([23, 7]), spec, "cnn")
    with tf.compat.v1.Session() as session:
      session.run(tf.compat.v1.global_variables_initializer())
      values, kernel, new_lengths = session.run([outputs, tf.compat.v1.trainable_variables()[0], lengths])
  np.testing.assert_allclose(values, naive_convolution(inputs, kernel, spec), atol=1e-12)
  np.testing.assert_array_equal(new_lengths, [convolution.output_size(length, spec) for length in (23, 7)])


@pytest.mark.parametrize(("frames", "bins"), [(23, 19), (24, 20), (24, 19), (1, 2), (2, 1)])
@pytest.mark.parametrize("layout", list(deep_speech_model.CONV_LAYOUTS))
@pytest.mark.parametrize("number", [0, 1])
def test_same_zeros_are_tensorflows(layout, number, frames, bins):
  spec = deep_speech_model.CONV_LAYOUTS[layout][number]._replace(filters=3, is_same=(True, True))
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    inputs = tf.constant(np.random.default_rng(number).normal(size=[2, frames, bins, 2]))
    padded = tf.compat.v1.placeholder_with_default(inputs, [None, None, bins, 2])
    outputs, lengths = convolution.conv_layer(padded, tf.constant([frames, 1]), spec, "cnn")
    (kernel,) = tf.compat.v1.trainable_variables()
    expected = tf.nn.conv2d(inputs, tf.convert_to_tensor(kernel), [1, *spec.strides, 1], "SAME")
    session.run(tf.compat.v1.global_variables_initializer())
    values, expected, steps = session.run([outputs, expected, lengths])
  np.testing.assert_allclose(values, expected, atol=1e-12)
  assert steps.tolist() == [values.shape[1], 1]


def test_a_bias_is_added():
  specs = [convolution.ConvSpec((5, 3), (2, 2), 3, has_bias) for has_bias in (False, True)]
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    inputs, lengths = tf.constant(np.random.default_rng(1).normal(size=[2, 9, 7, 2])), tf.constant([9, 7])
    outputs = []
    for spec in specs:
      with tf.compat.v1.variable_scope("", reuse=tf.compat.v1.AUTO_REUSE):
        outputs.append(convolution.conv_layer(inputs, lengths, spec, "cnn")[0])
    kernel, bias = tf.compat.v1.trainable_variables()
    assert (kernel.op.name, bias.op.name) == ("cnn/kernel", "cnn/bias")
    session.run(tf.compat.v1.global_variables_initializer())
    np.testing.assert_array_equal(*session.run(outputs))
    bias.load([1.0, -2.0, 3.0], session)
    without, biased = session.run(outputs)
  np.testing.assert_allclose(biased, without + [1.0, -2.0, 3.0], atol=1e-12)


# Numbers have 11 bits in the one format and 8 in the other: what is allowed are ten units in the last place.
@pytest.mark.parametrize(("compute_dtype", "tolerance"), [("float16", 10 * 2**-11), ("bfloat16", 10 * 2**-8)])
def test_half_precision_comes_close_over_the_same_float32_kernel(compute_dtype, tolerance):
  spec = convolution.ConvSpec((5, 3), (2, 2), filters=3)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    inputs = tf.constant(np.random.default_rng(1).normal(size=[2, 9, 7, 2]).astype(np.float32))
    fetches = []
    for dtype in (tf.float32, tf.as_dtype(compute_dtype)):
      with tf.compat.v1.variable_scope("", reuse=dtype is not tf.float32):
        outputs, _ = convolution.conv_layer(tf.cast(inputs, dtype), tf.constant([9, 7]), spec, "cnn")
      assert outputs.dtype == dtype
      outputs = tf.cast(outputs, tf.float32)
      (kernel,) = tf.compat.v1.trainable_variables()
      fetches.append([outputs, *tf.gradients(tf.reduce_sum(tf.square(outputs)), [inputs, kernel])])
    assert {tensor.dtype for tensor in fetches[1]} == {kernel.dtype.base_dtype} == {tf.float32}
    session.run(tf.compat.v1.global_variables_initializer())
    exact, close = session.run(fetches)
  for left, right in zip(exact, close, strict=True):
    error = np.linalg.norm(left - right) / np.linalg.norm(left)
    assert 0 < error < tolerance


def test_output_length_equals_the_original_network():
  shapes = fixture_files.load_json("lengths")["conv_output_shape_by_frames"]
  first, second = deep_speech_model.CONV_LAYOUTS["official"]
  bins = convolution.output_size(convolution.output_size(161, first, 1), second, 1)
  for frames, shape in shapes.items():
    assert shape == [1, networks.output_length(DeepSpeech2Settings())(int(frames)), bins, second.filters]


def test_output_length_rounds_up():
  frames = np.arange(1, 5000)
  for layout, stride in (("official", 4), ("paper", 2)):
    rule = networks.output_length(DeepSpeech2Settings(conv_layout=layout))
    np.testing.assert_array_equal(rule(frames), (frames + stride - 1) // stride)


def test_time_subsampling_is_the_product_of_the_strides():
  frames = np.arange(1, 200)
  for layout in deep_speech_model.CONV_LAYOUTS:
    for stride in (1, 2, 4):
      settings = DeepSpeech2Settings(conv_layout=layout, time_subsampling=stride)
      np.testing.assert_array_equal(networks.output_length(settings)(frames), -(-frames // stride))
      first, second = deep_speech_model.list_convolutions(settings)
      assert (first.strides[0], second.strides[0]) == (min(stride, 2), max(stride // 2, 1))
      assert [first.strides[1], second.strides[1]] == [s.strides[1] for s in deep_speech_model.CONV_LAYOUTS[layout]]


def test_sequence_mask():
  mask = convolution.sequence_mask([0, 2], 3, tf.float32, 4)
  assert mask.shape == [2, 3, 1, 1]
  np.testing.assert_array_equal(np.squeeze(mask), [[0, 0, 0], [1, 1, 0]])
