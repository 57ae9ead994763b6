"""What a model's features know of its training set, kept in a file beside settings.json."""

import dataclasses
import json
import math
from typing import Any

from official_utils.misc import files
from official_utils.misc.errors import UserError

STATISTICS_FILE = "feature_statistics.json"


@dataclasses.dataclass(frozen=True)
class FeatureStatistics:
  """The values of each bin over all frames of a training set, before they are normalised.

  Attributes:
    mean: the mean of each bin.
    deviation: the standard deviation of each bin.
  """

  mean: tuple[float, ...]
  deviation: tuple[float, ...]


def write_statistics(path: str, statistics: FeatureStatistics) -> None:
  """Write statistics as JSON, so that `read_statistics` reads the same numbers again."""
  files.write_atomically(path, json.dumps(dataclasses.asdict(statistics)) + "\n")


def read_statistics(path: str) -> FeatureStatistics:
  """Read statistics that `write_statistics` wrote."""
  remedy = f"restore it: a model_dir and the assets of its exports have the same {STATISTICS_FILE}"
  try:
    with open(path, encoding="utf-8", errors="replace") as file:
      values = json.load(file)
  except OSError as error:
    raise UserError(
      f"{path}: cannot be read ({error.strerror}), and without it features cannot be normalised as in training; {remedy}"
    ) from error
  except ValueError:
    values = None
  if (
    not isinstance(values, dict)
    or values.keys() != {"mean", "deviation"}
    or not all(map(_are_numbers, values.values()))
    or len(values["mean"]) != len(values["deviation"])
    or min(values["deviation"], default=0) < 0
  ):
    raise UserError(f"{path} is damaged: it does not hold a mean and a deviation for each bin; {remedy}")
  return FeatureStatistics(**{name: tuple(map(float, numbers)) for name, numbers in values.items()})


def _are_numbers(values: Any) -> bool:
  return isinstance(values, list) and all(type(each) in (int, float) and math.isfinite(each) for each in values)
