"""The settings of a model, without which its weights mean nothing; each is declared once.

A declaration gives the flag, the check of its value, the entry in settings.json and the words of errors. Whatever may
differ between two runs of one model (optimizer, batches, kernels, number formats) is not a setting.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from official_utils.misc import files
from official_utils.misc.errors import UserError
from settings.declaration import Declaration
from settings.features import (
  FeatureSettings,
  LogMelSettings,
  MagnitudeSettings,
  SpectrogramSettings,
  TransformSettings,
  window_and_hop,
)
from settings.networks import DeepSpeech2Settings, NetworkSettings, SpeechNetSettings
from settings.statistics import STATISTICS_FILE, FeatureStatistics, read_statistics, write_statistics

__all__ = [
  "FEATURES",
  "NETWORKS",
  "SETTINGS_FILE",
  "STATISTICS_FILE",
  "Declaration",
  "DeepSpeech2Settings",
  "FeatureSettings",
  "FeatureStatistics",
  "LogMelSettings",
  "MagnitudeSettings",
  "ModelSettings",
  "NetworkSettings",
  "SpectrogramSettings",
  "SpeechNetSettings",
  "TransformSettings",
  "declarations",
  "make_settings",
  "read_settings",
  "read_statistics",
  "window_and_hop",
  "write_settings",
  "write_statistics",
]

SETTINGS_FILE = "settings.json"
# To be raised when the form of settings.json changes. A setting missing from a file has its default, so a new setting
# does not change the form.
FORMAT = 1

NETWORKS: dict[str, type[NetworkSettings]] = {each.kind: each for each in (DeepSpeech2Settings, SpeechNetSettings)}
FEATURES: dict[str, type[FeatureSettings]] = {
  each.kind: each for each in (SpectrogramSettings, LogMelSettings, MagnitudeSettings)
}


@dataclasses.dataclass(frozen=True)
class ModelSettings:
  """All settings of a model.

  Attributes:
    network: how features become label scores.
    features: how audio becomes features.
    statistics: what the features know of the training set, in a file of its own; None if they need nothing of it, or
      before it is known.
  """

  network: NetworkSettings = DeepSpeech2Settings()
  features: FeatureSettings = SpectrogramSettings()
  statistics: FeatureStatistics | None = None

  def values(self) -> dict[str, Any]:
    """Return every setting by its name, including the kinds of network and features."""
    values: dict[str, Any] = {}
    for part, settings in (("network", self.network), ("features", self.features)):
      values |= {part: settings.kind, **dataclasses.asdict(settings)}
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
