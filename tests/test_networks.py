"""Holds what is known of a network against the network itself."""

import dataclasses
import types

import numpy as np
import pytest
import runs

import inference
import networks
import settings as all_settings
import speech_flags
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import DeepSpeech2Settings, ModelSettings, NetworkSettings, SpectrogramSettings, SpeechNetSettings


@pytest.mark.parametrize(
  "settings",
  [
    *(
      DeepSpeech2Settings(rnn_sizes="2", conv_layout=layout, time_subsampling=subsampling, conv_padding=padding)
      for layout, subsampling in (("official", 0), ("paper", 0), ("official", 1), ("official", 2), ("paper", 4))
      for padding in ("symmetric", "same")
    ),
    SpeechNetSettings(stacks=1, stack_filters=2),
  ],
  ids=str,
)
def test_the_output_length_is_that_of_the_logits(settings):
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


@pytest.mark.parametrize(
  ("network", "stride_ms", "seconds"),
  [
    (DeepSpeech2Settings(conv_layout="official"), 10, 0.04),
    (DeepSpeech2Settings(conv_layout="paper"), 20, 0.04),
    (SpeechNetSettings(), 20, 0.02),
  ],
  ids=str,
)
def test_a_step_lasts_as_long_as_its_frames(network, stride_ms, seconds):
  settings = ModelSettings(network, SpectrogramSettings(stride_ms=stride_ms))
  assert networks.step_seconds(settings) == pytest.approx(seconds)
  rule = networks.output_length(settings.network)
  assert (rule(10**6) - rule(0)) * seconds == pytest.approx(10**6 * stride_ms / 1000)


def test_a_step_is_a_whole_number_of_samples():
  features = SpectrogramSettings(sample_rate=22050)
  assert networks.step_seconds(ModelSettings(features=features)) == pytest.approx(4 * 220 / 22050)


@pytest.mark.parametrize(("time_subsampling", "seconds"), [(1, 0.01), (2, 0.02), (4, 0.04)])
def test_a_step_lasts_as_long_as_the_subsampling_says(time_subsampling, seconds):
  for conv_layout in ("official", "paper"):
    network = DeepSpeech2Settings(conv_layout=conv_layout, time_subsampling=time_subsampling)
    assert networks.step_seconds(ModelSettings(network)) == pytest.approx(seconds)


def test_masks_can_be_asked_for():
  settings = DeepSpeech2Settings(mask_padding=False, use_bias=False)
  assert networks.with_masks(settings) == DeepSpeech2Settings(use_bias=False)


@dataclasses.dataclass(frozen=True)
class TrialSettings(NetworkSettings):
  """A network of one dense layer, for this test alone."""

  kind = "trial"
  depth: int = dataclasses.field(default=3, metadata={"help": "The frames of a step.", "at_least": 1})


def make_trial(settings, num_classes, **execution):
  def network(features, lengths, training):
    rows = features[:, :: settings.depth, :, 0]
    kernel = tf.compat.v1.get_variable("dense/kernel", [rows.shape[2], num_classes])
    return tf.einsum("btd,dc->btc", rows, kernel), trial_length(lengths, settings)

  return network


def trial_length(num_frames, settings):
  return (num_frames + settings.depth - 1) // settings.depth


def test_a_network_more_is_its_settings_its_module_and_a_line(monkeypatch):
  module = types.SimpleNamespace(
    make_network=make_trial, compute_output_length=trial_length, count_frames_per_step=lambda settings: settings.depth
  )
  monkeypatch.setitem(all_settings.NETWORKS, "trial", TrialSettings)
  monkeypatch.setitem(networks._MODULES, TrialSettings, module)
  chosen = speech_flags.model_settings(runs.parse("--network=trial", "--depth=4", "--window_ms=25"))
  assert chosen == ModelSettings(TrialSettings(depth=4), SpectrogramSettings(window_ms=25))
  assert networks.step_seconds(chosen) == 0.04
  assert networks.output_length(chosen.network)(9) == 3
  assert inference.variable_shapes(chosen, 29) == {"dense/kernel": [201, 29]}
  with tf.Graph().as_default():
    assert inference.build_graph(chosen, "ab-").log_probs.shape.as_list() == [None, None, 3]
  with pytest.raises(UserError, match="--rnn_type means nothing with --network=trial and --features=spectrogram"):
    speech_flags.model_settings(runs.parse("--network=trial", "--rnn_type=gru"))
