"""Tries the declarations of settings, what they refuse, and the files that they are kept in."""

import dataclasses
import json
import re

import fixture_files
import pytest
from hypothesis import given
from hypothesis import strategies as st

import settings
from official_utils.misc.errors import UserError
from settings import (
  FEATURES,
  DeepSpeech2Settings,
  FeatureStatistics,
  LogMelSettings,
  MagnitudeSettings,
  ModelSettings,
  SpectrogramSettings,
  SpeechNetSettings,
  make_settings,
  read_settings,
  read_statistics,
  write_settings,
  write_statistics,
)


def test_the_defaults_are_the_originals():
  original = {name: flag["default"] for name, flag in fixture_files.load_json("flags")["deep_speech"]["flags"].items()}
  values = ModelSettings().values()
  assert {name: values[name] for name in values.keys() & original.keys()} == {
    name: original[name] for name in values.keys() & original.keys()
  }
  assert values.keys() >= {"rnn_type", "rnn_hidden_size", "is_bidirectional", "use_bias", "sample_rate", "window_ms"}
  assert (values["network"], values["features"], values["feature_norm"]) == ("deep_speech", "spectrogram", "utterance")
  assert (values["conv_layout"], values["mask_padding"]) == ("official", True)
  assert make_settings({}) == ModelSettings()


def test_a_declaration_tells_all_of_a_setting():
  declared = settings.declarations()["rnn_type"]
  assert (declared.types, declared.default, declared.case_sensitive) == ((str,), "gru", False)
  assert "gru_reset_after" in declared.choices
  assert settings.declarations()["rnn_hidden_size"].at_least == 1
  assert all(declared.help.rstrip().endswith(".") for declared in settings.declarations().values())


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"rnn_hidden_size": 0}, "--rnn_hidden_size=0 is out of range; give 1 or more"),
    ({"rnn_hidden_size": 8.5}, "--rnn_hidden_size=8.5 is out of range; give a whole number"),
    ({"rnn_hidden_size": True}, "--rnn_hidden_size=True is out of range; give a whole number"),
    ({"use_bias": 1}, "--use_bias=1 is out of range; give true or false"),
    ({"rnn_type": "tree"}, "--rnn_type=tree is out of range; give one of lstm, rnn, gru, gru_reset_after"),
    ({"rnn_type": None}, "--rnn_type=None is out of range; give a word"),
    ({"window_ms": float("nan")}, "--window_ms=nan is out of range; give 1 or more"),
    ({"window_ms": float("inf")}, "--window_ms=inf is out of range"),
    ({"stride_ms": 21}, "--stride_ms=21 is longer than --window_ms=20"),
    ({"sample_rate": 100}, "--window_ms=20 is 2 samples at 100 Hz"),
    ({"dropout": 1.0}, "--dropout=1.0 is out of range; give 0 or more, and less than 1"),
    ({"dropout": -0.1}, "--dropout=-0.1 is out of range; give 0 or more"),
    ({"norm_momentum": 1}, "--norm_momentum=1 is out of range; give 0 or more, and less than 1"),
    ({"time_subsampling": 3}, "--time_subsampling=3 is out of range; give 0, 1, 2 or 4"),
    ({"rnn_merge": "mean"}, "--rnn_merge=mean is out of range; give one of concat, sum"),
    (
      {"rnn_sizes": "512,"},
      "--rnn_sizes=512, is no list of whole numbers from 1 on; give one such as --rnn_sizes=512,",
    ),
    ({"rnn_sizes": "512,0"}, "--rnn_sizes=512,0 is no list"),
    ({"rnn_sizes": "8\n"}, "is no list"),
    (
      {"rnn_sizes": "8,8", "rnn_hidden_layers": 2},
      "--rnn_sizes=8,8 and --rnn_hidden_layers=2 disagree, .* one of them",
    ),
    ({"rnn_sizes": "8,8", "rnn_hidden_size": 8}, "--rnn_sizes=8,8 and --rnn_hidden_size=8 disagree"),
    ({"row_conv_width": 3}, "--row_conv_width=3 is for layers that do not read backwards; give --nois_bidirectional"),
    ({"row_conv_width": -1, "is_bidirectional": False}, "--row_conv_width=-1 is out of range; give 0 or more"),
    ({"network": "other"}, "--network=other is out of range; give one of deep_speech"),
    ({"network": "other"}, "--network=other is out of range; give one of deep_speech, speech_net"),
    ({"stacks": 0, "network": "speech_net"}, "--stacks=0 is out of range; give 1 or more"),
    *(
      (
        {"stack_dilation_rates": rates, "network": "speech_net"},
        f"--stack_dilation_rates={rates} is out of range; give whole numbers from 1 to 9999, separated by commas, such",
      )
      for rates in ("", "1,", "1, 3", "0", "1,-3", "2.5", "10000", "1;3")
    ),
    ({"features": ["spectrogram"]}, "--features=.* is out of range"),
  ],
)
def test_wrong_values_are_refused_in_words(values, message):
  with pytest.raises(UserError, match=message):
    make_settings(values)


VALUES = st.fixed_dictionaries(
  {},
  optional={
    "rnn_hidden_size": st.integers(1, 5000),
    "rnn_type": st.sampled_from(["lstm", "gru"]),
    "mask_padding": st.booleans(),
    "conv_layout": st.sampled_from(["official", "paper"]),
    "norm_momentum": st.floats(0, 0.99),
    "time_subsampling": st.sampled_from([0, 1, 2, 4]),
    "conv_bias": st.booleans(),
    "sample_rate": st.integers(1000, 48000),
    "window_ms": st.one_of(st.integers(20, 60), st.floats(20, 60)),
    "feature_norm": st.sampled_from(["utterance", "none"]),
  },
)


@given(values=VALUES)
def test_settings_are_read_as_they_are_written(values, tmp_path_factory):
  path = str(tmp_path_factory.mktemp("settings") / "settings.json")
  chosen = make_settings(values)
  write_settings(path, chosen)
  assert read_settings(path) == chosen
  assert chosen.values() == ModelSettings().values() | values
  with open(path) as file:
    assert json.load(file)["format"] == settings.FORMAT


def test_sizes_of_recurrent_layers():
  assert DeepSpeech2Settings().layer_sizes == (800,) * 5
  assert DeepSpeech2Settings(rnn_sizes="512,16,8").layer_sizes == (512, 16, 8)


def test_a_list_of_numbers_is_written_with_commas():
  assert SpeechNetSettings().dilation_rates == (1, 3, 9, 27, 81)
  assert SpeechNetSettings(stack_dilation_rates="7").dilation_rates == (7,)


def test_a_file_of_an_earlier_version_lacks_names_which_means_their_defaults(tmp_path):
  path = tmp_path / "settings.json"
  path.write_text(json.dumps({"rnn_hidden_size": 9, "sample_rate": 8000}))
  assert read_settings(str(path)) == ModelSettings(
    DeepSpeech2Settings(rnn_hidden_size=9), SpectrogramSettings(sample_rate=8000)
  )


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ('{"no_such_setting": 0.1}', "the setting 'no_such_setting' is not known here: .* newer version of this program"),
    ('{"format": 2}', "the format 2 is not known here: .* newer version"),
    ("{", "is damaged: it holds no settings; restore it"),
    ("[]", "is damaged"),
    ("\x80", "is damaged"),
    ('{"format": "one"}', "is damaged"),
    ('{"format": true}', "is damaged"),
    ('{"rnn_type": "tree"}', r"is damaged \(--rnn_type=tree is out of range.*\); restore it"),
  ],
)
def test_what_cannot_be_read_is_said(content, message, tmp_path):
  path = tmp_path / "settings.json"
  path.write_text(content)
  with pytest.raises(UserError, match=f"settings.json.*{message}") as caught:
    read_settings(str(path))
  assert "\n" not in str(caught.value)


def test_a_network_more_is_a_class_more(monkeypatch):
  @dataclasses.dataclass(frozen=True)
  class TrialSettings(settings.NetworkSettings):
    """A network that there is not."""

    kind = "trial"
    depth: int = dataclasses.field(default=3, metadata={"help": "The depth.", "at_least": 1})

  monkeypatch.setitem(settings.NETWORKS, "trial", TrialSettings)
  assert settings.declarations()["depth"].default == 3
  assert settings.declarations()["network"].choices == ("deep_speech", "speech_net", "trial")
  chosen = make_settings({"network": "trial", "depth": 4, "rnn_hidden_size": 9})
  assert chosen.network == TrialSettings(depth=4)
  assert {"network", "mask_padding", "depth"} == chosen.values().keys() - SpectrogramSettings().__dict__.keys() - {
    "features"
  }


def test_two_classes_cannot_mean_two_things_by_one_name(monkeypatch):
  @dataclasses.dataclass(frozen=True)
  class OtherSettings(settings.NetworkSettings):
    """A network with another default for a name that there is."""

    kind = "other"
    rnn_hidden_size: int = dataclasses.field(default=512, metadata={"help": "The units."})

  monkeypatch.setitem(settings.NETWORKS, "other", OtherSettings)
  with pytest.raises(ValueError, match="OtherSettings declares rnn_hidden_size otherwise"):
    settings.declarations()


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (
      {"fft_length": 319},
      "--fft_length=319 is shorter than the window, --window_ms=20, which is 320 samples .* to 320",
    ),
    ({"fft_length": -1}, "--fft_length=-1 is out of range; give 0 or more"),
    ({"num_mel_bins": 0}, "--num_mel_bins=0 is out of range; give 1 or more"),
    ({"log_offset": 0.0}, "--log_offset=0.0 is out of range; give 1e-20 or more"),
    ({"log_offset": float("nan")}, "--log_offset=nan"),
    ({"lower_edge_hertz": -1.0}, "--lower_edge_hertz=-1.0 is out of range; give 0 or more"),
    (
      {"upper_edge_hertz": 8001.0},
      "--upper_edge_hertz=8001.0 is above half of --sample_rate=16000: .* to 8000 or less",
    ),
    ({"lower_edge_hertz": 8000.0}, "--lower_edge_hertz=8000.0 is not below the upper edge, 8000 Hz: lower"),
    ({"lower_edge_hertz": 400.0, "upper_edge_hertz": 400.0}, "is not below the upper edge, 400 Hz"),
    ({"num_mel_bins": 160}, "from 0.00 to 37.47 Hz .* 50 Hz apart; raise --fft_length to 512 or lower .* to 119$"),
    ({"num_mel_bins": 10**18, "lower_edge_hertz": 3000.0}, "50 Hz apart; lower --num_mel_bins to [0-9]+$"),
    ({"lower_edge_hertz": 410.0, "upper_edge_hertz": 410.001}, "move --lower_edge_hertz and --upper_edge_hertz apart$"),
    ({"num_mel_bins": 2, "lower_edge_hertz": 400.0, "upper_edge_hertz": 450.0}, "raise --fft_length to 512$"),
  ],
)
def test_features_of_log_mel_that_cannot_be_are_refused(values, message):
  with pytest.raises(UserError, match=message):
    make_settings({"features": "log_mel", **values})


@given(
  num_mel_bins=st.integers(1, 200),
  window_ms=st.integers(10, 90),
  lower=st.floats(0, 3000),
  width=st.floats(50, 5000),
)
def test_the_remedies_for_empty_bands_help(num_mel_bins, window_ms, lower, width):
  edges = {"lower_edge_hertz": lower, "upper_edge_hertz": lower + width, "window_ms": window_ms}
  try:
    LogMelSettings(num_mel_bins=num_mel_bins, **edges)
  except UserError as error:
    fft_length, *fewer = (int(number) for number in re.findall(r"(?<= to )\d+(?=$| or)", str(error)))
    LogMelSettings(num_mel_bins=num_mel_bins, fft_length=fft_length, **edges)
    assert not fewer or LogMelSettings(num_mel_bins=fewer[0], **edges).num_mel_bins < num_mel_bins


def test_bands_have_the_edges_that_librosa_documents():
  """librosa.mel_frequencies(n_mels=40), from its documentation; its edges are the first and the last of them."""
  edges = LogMelSettings(sample_rate=22050, num_mel_bins=38).edges()
  assert len(edges) == 40
  some = {0: 0, 1: 85.317, 11: 938.49, 12: 1024.856, 13: 1119.114, 25: 3216.731, 38: 10096.408, 39: 11025}
  assert {number: round(edges[number], 3) for number in some} == some


def test_a_transform_is_as_long_as_the_window_or_a_power_of_two():
  assert [LogMelSettings(window_ms=ms).num_points for ms in (20, 25, 32)] == [320, 400, 512]
  assert [MagnitudeSettings(window_ms=ms).num_points for ms in (20, 25, 32)] == [512, 512, 512]
  assert LogMelSettings(fft_length=700).num_points == MagnitudeSettings(fft_length=700).num_points == 700


@pytest.mark.parametrize("kind", sorted(FEATURES))
def test_some_norms_need_statistics(kind):
  norms = settings.declarations()["feature_norm"].choices
  needing = {norm for norm in norms if FEATURES[kind](feature_norm=norm).needs_statistics}
  assert needing == {"corpus", "running"}


def test_statistics_are_read_as_they_are_written(tmp_path):
  path = str(tmp_path / settings.STATISTICS_FILE)
  statistics = FeatureStatistics((0.1, -1 / 3, 1e-300), (2.0, 3.0, 0.0))
  write_statistics(path, statistics)
  assert read_statistics(path) == statistics


@pytest.mark.parametrize(
  "content",
  ["{", "[]", "\x80", '{"mean": [1]}', '{"mean": [1], "deviation": 2}', '{"mean": [1], "deviation": [NaN]}']
  + ['{"mean": [true], "deviation": [1]}', '{"mean": ["1"], "deviation": [1]}']
  + ['{"mean": [1], "deviation": [1, 2]}', '{"mean": [1], "deviation": [-1]}'],
)
def test_damaged_statistics_are_said(content, tmp_path):
  path = tmp_path / settings.STATISTICS_FILE
  path.write_text(content)
  with pytest.raises(UserError, match="feature_statistics.json is damaged: .* restore it: a model_dir and the assets"):
    read_statistics(str(path))


def test_statistics_that_are_not_there_are_said(tmp_path):
  with pytest.raises(
    UserError, match="none.json: cannot be read .No such file.*restore it: a model_dir and the assets"
  ):
    read_statistics(str(tmp_path / "none.json"))
