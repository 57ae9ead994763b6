"""Holds what is known of a network against the network itself."""

import numpy as np
import pytest

import networks
from official_utils.lazy import tf
from settings import DeepSpeech2Settings, ModelSettings, SpectrogramSettings


@pytest.mark.parametrize("conv_layout", ["official", "paper"])
def test_the_output_length_is_that_of_the_logits(conv_layout):
  settings = DeepSpeech2Settings(rnn_hidden_layers=1, rnn_hidden_size=2, conv_layout=conv_layout)
  frames = np.arange(1, 12)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    features = tf.zeros([len(frames), frames.max(), 21, 1])
    logits, lengths = networks.make_network(settings, 5)(features, tf.constant(frames, tf.int32), training=False)
    session.run(tf.compat.v1.global_variables_initializer())
    values, steps = session.run([logits, lengths])
  assert values.shape == (len(frames), steps.max(), 5)
  rule = networks.output_length(settings)
  np.testing.assert_array_equal(steps, rule(frames))
  np.testing.assert_array_equal(steps, rule(tf.constant(frames)))
  assert [rule(int(count)) for count in frames] == steps.tolist()


@pytest.mark.parametrize(("conv_layout", "stride_ms", "seconds"), [("official", 10, 0.04), ("paper", 20, 0.04)])
def test_a_step_lasts_as_long_as_its_frames(conv_layout, stride_ms, seconds):
  settings = ModelSettings(DeepSpeech2Settings(conv_layout=conv_layout), SpectrogramSettings(stride_ms=stride_ms))
  assert networks.step_seconds(settings) == pytest.approx(seconds)
  rule = networks.output_length(settings.network)
  assert (rule(10**6) - rule(0)) * seconds == pytest.approx(10**6 * stride_ms / 1000)


def test_masks_can_be_asked_for():
  settings = DeepSpeech2Settings(mask_padding=False, use_bias=False)
  assert networks.with_masks(settings) == DeepSpeech2Settings(use_bias=False)
