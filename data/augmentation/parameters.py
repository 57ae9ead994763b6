"""Declares kinds of augmentation: frozen dataclasses whose parameters are declared once, with default, limits and help."""

import dataclasses
import functools
import hashlib
import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from official_utils.misc.errors import UserError

if TYPE_CHECKING:
  from data.augmentation.recordings import Recordings

_FORM = re.compile(r"(\w+)(?:\[(.*)\])?")


class Range(NamedTuple):
  """Where a number is drawn from, uniformly."""

  low: float
  high: float


class Strength(NamedTuple):
  """A range that moves over training: from `start` in the first epoch to `end` in the last, linearly."""

  start: Range
  end: Range

  @classmethod
  def parse(cls, text: str) -> "Strength":
    """Read "NUMBER", "MIN..MAX" or two of these with ":" between them; raise ValueError for anything else."""
    points = [_parse_range(point) for point in text.split(":", 1)]
    return cls(points[0], points[-1])

  @property
  def lowest(self) -> float:
    """The smallest number that may ever be drawn."""
    return min(self.start.low, self.end.low)

  @property
  def highest(self) -> float:
    """The largest number that may ever be drawn."""
    return max(self.start.high, self.end.high)

  def at(self, progress: float) -> Range:
    """Return the range at a point of training, from 0 at its beginning to 1 at its end."""
    if self.start == self.end:
      return self.start
    return Range(*(start + progress * (end - start) for start, end in zip(self.start, self.end, strict=True)))

  def __str__(self) -> str:
    """Write it as `parse` reads it."""
    texts = [f"{low:g}" if low == high else f"{low:g}..{high:g}" for low, high in self]
    return ":".join(dict.fromkeys(texts))


def _parse_range(text: str) -> Range:
  """Read "NUMBER" or "MIN..MAX"."""
  numbers = [float(number) for number in text.split("..", 1)]
  chosen = Range(numbers[0], numbers[-1])
  if not -math.inf < chosen.low <= chosen.high < math.inf:
    raise ValueError(text)
  return chosen


def number(default: str | None, help_text: str, at_least: float, at_most: float) -> Any:
  """Declare a field of type Strength; without a default it is None if it is not given."""
  metadata = {"help": help_text, "limits": Range(at_least, at_most)}
  return dataclasses.field(default=default and Strength.parse(default), metadata=metadata)


def word(default: str | None, help_text: str, choices: Sequence[str] | None = None) -> Any:
  """Declare a field of type str; without choices it may be any text."""
  return dataclasses.field(default=default, metadata={"help": help_text, "choices": choices})


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Base of all kinds of augmentation.

  Attributes:
    kind: the name of the class in --augment.
    p: the share of the utterances that it is applied to.
  """

  kind: ClassVar[str]

  p: Strength = number("1", "The share of the utterances that it is applied to.", 0, 1)

  def __post_init__(self) -> None:
    """Refuse a share that is a range: it would say nothing more than its mean does."""
    if any(low != high for low, high in self.p):
      raise UserError(f"--augment={self.kind}[p={self.p}]: p is a share, not a range; give one number, such as p=0.5")

  def longest(self, seconds: float) -> float:
    """Return the most that a clip of so many seconds may become, in seconds."""
    return seconds


class Draw:
  """Draws an augmentation's parameters for one utterance, and keeps what was drawn.

  Attributes:
    rate: samples or frames a second of what is augmented.
    index: the utterance's place among the others.
    others: the recordings of all utterances; None if there are none.
    drawn: (name, value) of each parameter in the order in which they were drawn.
  """

  def __init__(
    self,
    augmentation: Augmentation,
    seed: Sequence[int],
    progress: float,
    rate: float,
    index: int = 0,
    others: "Recordings | None" = None,
  ):
    """Begin with the seed; `progress` is the point of training, from 0 to 1."""
    self.rate = rate
    self.index = index
    self.others = others
    self.drawn: list[tuple[str, float | str]] = []
    self._augmentation = augmentation
    self._progress = progress
    self._seed = seed
    self._hash = hashlib.blake2b(struct.pack(f"<{len(seed)}q", *seed))
    self._numbers: list[int] = []
    # Drawn whether it matters or not, so that another share leaves the draws that follow as they are.
    self.happens = self._uniform() < augmentation.p.at(progress).low

  @functools.cached_property
  def rng(self) -> np.random.Generator:
    """What draws noise."""
    return np.random.default_rng(self._seed)

  def number(self, name: str) -> float:
    """Draw a parameter from its range."""
    low, high = getattr(self._augmentation, name).at(self._progress)
    return self._keep(name, low + (high - low) * self._uniform())

  def whole(self, name: str, scale: float = 1.0, most: float = math.inf) -> int:
    """Draw a whole number; both ends of the range count like every number between them.

    Args:
      name: the parameter.
      scale: what the range is multiplied by.
      most: the largest number that may be drawn.
    """
    low, high = getattr(self._augmentation, name).at(self._progress)
    low, high = min(scale * low, most), min(scale * high, most)
    return self._keep(name, int(min(low + (high + 1 - low) * self._uniform(), most)))

  def place(self, count: int) -> int:
    """Draw one of so many places, from 0 on."""
    return int(count * self._uniform())

  def note(self, name: str, value: str) -> None:
    """Keep what was drawn by other means."""
    self._keep(name, value)

  def _uniform(self) -> float:
    """Draw a number from 0 to 1, exclusive: of the eight in a hash of the seed, and then of that and one byte more.

    Masks need a dozen numbers. A generator of Python or numpy would take longer to begin than to draw them.
    """
    if not self._numbers:
      self._hash.update(b"\0")
      self._numbers = list(struct.unpack("<8Q", self._hash.digest()))
    # As many bits as a float has.
    return (self._numbers.pop() >> 11) * 2.0**-53

  def _keep(self, name: str, value: Any) -> Any:
    self.drawn.append((name, value))
    return value


def parse(text: str, kinds: Mapping[str, type[Augmentation]]) -> Augmentation:
  """Make an augmentation from "NAME" or "NAME[KEY=VALUE,...]".

  Args:
    text: what --augment is given.
    kinds: the classes by name.

  Raises:
    UserError: says what is wrong and lists what exists.
  """
  match = _FORM.fullmatch(text.strip())
  if not match:
    raise UserError(f"--augment={text} cannot be read; give NAME or NAME[KEY=VALUE,...], such as shift[ms=-250..250]")
  name, inside = match.groups()
  if name not in kinds:
    raise UserError(f"--augment={text}: {name!r} does not exist; give one of {', '.join(kinds)}")
  fields = {field.name: field for field in dataclasses.fields(kinds[name])}
  values: dict[str, Any] = {}
  for part in filter(None, (inside or "").split(",")):
    key, _, value = (side.strip() for side in part.partition("="))
    if key not in fields:
      raise UserError(f"--augment={text}: {name} has no parameter {key!r}; it has {', '.join(fields)}")
    if key in values:
      raise UserError(f"--augment={text}: {key} is given twice; leave one out")
    try:
      values[key] = _parse_value(fields[key], value)
    except ValueError:
      raise UserError(f"--augment={text}: {key}={value} is out of range; give {_wanted(fields[key])}") from None
  return kinds[name](**values)


def describe(kind: type[Augmentation]) -> list[str]:
  """Describe a kind in lines: its name and what it does, then each parameter with its default."""
  first_line = (kind.__doc__ or "").splitlines()[0]
  lines = [f"{kind.kind}: {first_line}"]
  for field in dataclasses.fields(kind):
    default = "not given" if field.default is None else field.default
    choices = field.metadata.get("choices")
    lines.append(
      f"  {field.name} ({', '.join(choices) + '; ' if choices else ''}default: {default}): {field.metadata['help']}"
    )
  return lines


def _parse_value(field: dataclasses.Field, text: str) -> Strength | str:
  """Read a parameter's value; raise ValueError if it is not allowed."""
  if "limits" in field.metadata:
    strength, limits = Strength.parse(text), field.metadata["limits"]
    if strength.lowest < limits.low or strength.highest > limits.high:
      raise ValueError(text)
    return strength
  choices = field.metadata["choices"]
  if not text or (choices and text not in choices):
    raise ValueError(text)
  return text


def _wanted(field: dataclasses.Field) -> str:
  """Say in words what a parameter's value may be."""
  if "limits" in field.metadata:
    low, high = field.metadata["limits"]
    return f"a number from {low:g} to {high:g}, a range MIN..MAX, or START:END for its course over training"
  choices = field.metadata["choices"]
  return f"one of {', '.join(choices)}" if choices else "a name"
