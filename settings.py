"""The settings of a model, without which its weights mean nothing; each is declared once.

A declaration gives the flag, the check of its value, the entry in settings.json and the words of errors. Whatever may
differ between two runs of one model (optimizer, batches, kernels, number formats) is not a setting.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, cast

from official_utils.misc import files
from official_utils.misc.errors import UserError

SETTINGS_FILE = "settings.json"
# To be raised when the form of settings.json changes. A setting missing from a file has its default, so a new setting
# does not change the form.
FORMAT = 1


class Declaration(NamedTuple):
  """One setting.

  Attributes:
    name: its name in flags, files and messages.
    types: the types of its values.
    default: the behaviour of the program before the setting existed.
    help: its meaning.
    choices: the values allowed; None for any.
    at_least: the smallest value allowed; None for any.
    case_sensitive: whether upper and lower case matter in a choice.
  """

  name: str
  types: tuple[type, ...]
  default: Any
  help: str
  choices: tuple[str, ...] | None = None
  at_least: int | None = None
  case_sensitive: bool = True

  def check(self, value: Any) -> None:
    """Refuse a value that is not allowed."""
    if type(value) not in self.types:
      wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}[self.types[-1]]
    elif self.choices is not None and value not in self.choices:
      wanted = f"one of {', '.join(self.choices)}"
    elif self.at_least is not None and not self.at_least <= value < float("inf"):
      wanted = f"{self.at_least} or more"
    else:
      return
    raise UserError(f"--{self.name}={value} is out of range; give {wanted}")


def _setting(default: Any, help_text: str, **limits: Any) -> Any:
  """Declare a field of a settings class; `limits` are attributes of Declaration."""
  return dataclasses.field(default=default, metadata={"help": help_text, **limits})


@dataclasses.dataclass(frozen=True)
class _Settings:
  """Base of frozen dataclasses of declared fields, which check their values when they are made.

  Attributes:
    kind: the name of the class in --network or --features.
  """

  kind: ClassVar[str]

  def __post_init__(self) -> None:
    """Refuse values that are not allowed."""
    for declared in self.declarations():
      declared.check(getattr(self, declared.name))

  @classmethod
  def declarations(cls) -> tuple[Declaration, ...]:
    """List the settings in their order."""
    return tuple(
      Declaration(
        field.name,
        # No annotation here is a string.
        (int, float) if field.type is float else (cast(type, field.type),),
        field.default,
        **field.metadata,
      )
      for field in dataclasses.fields(cls)
    )


@dataclasses.dataclass(frozen=True)
class FeatureSettings(_Settings):
  """How audio becomes features: the settings that all kinds share."""

  sample_rate: int = _setting(16000, "Samples a second; audio at other rates is converted.", at_least=1)
  window_ms: float = _setting(20, "The length of a frame of the spectrogram, in milliseconds.", at_least=1)
  stride_ms: float = _setting(
    10, "The time from one frame of the spectrogram to the next, in milliseconds.", at_least=1
  )
  feature_norm: str = _setting(
    "utterance",
    """How features are normalised: 'utterance' shifts and scales each bin to mean 0 and deviation 1 over the utterance,
    'none' leaves them as they are.""",
    choices=("utterance", "none"),
  )

  def __post_init__(self) -> None:
    """Refuse frames that leave gaps between them or that are too short for a spectrum."""
    super().__post_init__()
    window_and_hop(self.sample_rate, self.window_ms, self.stride_ms)


@dataclasses.dataclass(frozen=True)
class SpectrogramSettings(FeatureSettings):
  """Log power spectrograms, the original's features."""

  kind = "spectrogram"


@dataclasses.dataclass(frozen=True)
class NetworkSettings(_Settings):
  """The settings that all networks share."""

  mask_padding: bool = _setting(
    True,
    """Whether to keep the padding of a batch out of every result. With --nomask_padding the network computes as the
    original does: the result of an utterance depends on the length of the others in the batch.""",
  )


@dataclasses.dataclass(frozen=True)
class DeepSpeech2Settings(NetworkSettings):
  """DeepSpeech2: two convolutions, a recurrent stack and a dense layer."""

  kind = "deep_speech"

  rnn_type: str = _setting(
    "gru",
    """The kind of the recurrent layers. 'gru' is the original's; 'gru_reset_after' applies the reset gate after the
    product with the state, like cuDNN.""",
    choices=("lstm", "rnn", "gru", "gru_reset_after"),
    case_sensitive=False,
  )
  rnn_hidden_layers: int = _setting(5, "The number of recurrent layers.", at_least=1)
  rnn_hidden_size: int = _setting(800, "The units of a recurrent layer, in each direction.", at_least=1)
  is_bidirectional: bool = _setting(True, "Whether the recurrent layers read an utterance backwards as well.")
  use_bias: bool = _setting(True, "Whether the last, fully connected layer has a bias.")
  conv_layout: str = _setting(
    "official",
    """The kernels of the convolutions: 'official' takes 4 frames per output step; 'paper' takes 2, like the paper,
    which leaves room for doubled letters and costs more time.""",
    choices=("official", "paper"),
  )


NETWORKS: dict[str, type[NetworkSettings]] = {each.kind: each for each in (DeepSpeech2Settings,)}
FEATURES: dict[str, type[FeatureSettings]] = {each.kind: each for each in (SpectrogramSettings,)}


def window_and_hop(sample_rate: int, window_ms: float, stride_ms: float) -> tuple[int, int]:
  """Convert window and stride from milliseconds to samples; refuse values that make no frames."""
  window_size = int(0.001 * sample_rate * window_ms)
  hop = int(0.001 * sample_rate * stride_ms)
  # The first and the last point of a Hann window are zero.
  if window_size < 3:
    raise UserError(
      f"--window_ms={window_ms} is {max(window_size, 0)} samples at {sample_rate} Hz; it must be at least 3: "
      f"raise --window_ms to {3000 / sample_rate:.4g} or more"
    )
  if hop < 1:
    raise UserError(
      f"--stride_ms={stride_ms} is 0 samples at {sample_rate} Hz; it must be at least 1: "
      f"raise --stride_ms to {1000 / sample_rate:.4g} or more"
    )
  if hop > window_size:
    raise UserError(
      f"--stride_ms={stride_ms} is longer than --window_ms={window_ms}, which would skip samples: "
      f"lower --stride_ms to {window_ms} or less"
    )
  return window_size, hop


@dataclasses.dataclass(frozen=True)
class ModelSettings:
  """All settings of a model.

  Attributes:
    network: how features become label scores.
    features: how audio becomes features.
  """

  network: NetworkSettings = DeepSpeech2Settings()
  features: FeatureSettings = SpectrogramSettings()

  def values(self) -> dict[str, Any]:
    """Return every setting by its name, including the kinds of network and features."""
    values: dict[str, Any] = {}
    for part in dataclasses.fields(self):
      settings = getattr(self, part.name)
      values |= {part.name: settings.kind, **dataclasses.asdict(settings)}
    return values


def declarations() -> dict[str, Declaration]:
  """Return the declarations of all settings of all networks and features by name."""
  found: dict[str, Declaration] = {}
  for part, kinds, text in (
    ("network", NETWORKS, "The network from features to the scores of the labels."),
    ("features", FEATURES, "The kind of features that audio is turned into."),
  ):
    found[part] = Declaration(part, (str,), next(iter(kinds)), text, choices=tuple(kinds))
    for kind in kinds.values():
      for declared in kind.declarations():
        if found.setdefault(declared.name, declared) != declared:
          raise ValueError(
            f"{kind.__name__} declares {declared.name} otherwise than another class; settings share flags"
          )
  return found


def make_settings(values: Mapping[str, Any]) -> ModelSettings:
  """Make the settings of a model.

  Args:
    values: settings by name; missing ones take their defaults, and those that the chosen network and features do not
      have are ignored.
  """
  known, parts = declarations(), dict[str, Any]()
  for part, kinds in (("network", NETWORKS), ("features", FEATURES)):
    declared = known[part]
    chosen = values.get(part, declared.default)
    declared.check(chosen)
    names = [each.name for each in kinds[chosen].declarations()]
    parts[part] = kinds[chosen](**{name: values[name] for name in names if name in values})
  return ModelSettings(**parts)


def write_settings(path: str, settings: ModelSettings) -> None:
  """Write settings as JSON, so that `read_settings` reads them again."""
  files.write_atomically(path, json.dumps({"format": FORMAT, **settings.values()}, indent=2, sort_keys=True) + "\n")


def read_settings(path: str) -> ModelSettings:
  """Read the settings of a trained model.

  Args:
    path: a file that `write_settings` wrote, in this or an earlier version.
  """
  with open(path, encoding="utf-8", errors="replace") as file:
    try:
      values = json.load(file)
    except ValueError:
      values = None
  if not isinstance(values, dict) or type(values.get("format", 0)) is not int:
    raise UserError(f"{path} is damaged: it holds no settings; restore it")
  unknown = sorted(values.keys() - declarations().keys() - {"format"})
  if values.get("format", 0) > FORMAT or unknown:
    what = f"the setting {unknown[0]!r}" if unknown else f"the format {values['format']}"
    raise UserError(
      f"{path}: {what} is not known here: the file was written by a newer version of this program; use that version"
    )
  try:
    return make_settings(values)
  except UserError as error:
    raise UserError(f"{path} is damaged ({error}); restore it") from error
