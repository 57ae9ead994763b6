"""Tries the declarations of settings, what they refuse, and the files that they are kept in."""

import dataclasses
import json

import fixture_files
import pytest
from hypothesis import given
from hypothesis import strategies as st

import settings
from official_utils.misc.errors import UserError
from settings import (
  DeepSpeech2Settings,
  ModelSettings,
  SpectrogramSettings,
  SpeechNetSettings,
  make_settings,
  read_settings,
  write_settings,
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
