"""The kinds of augmentation that mask features: SpecAugment."""

import dataclasses

from data.augmentation.parameters import Augmentation, Draw, Strength, number

# The frames and the bins that a mask covers.
Mask = tuple[slice, slice]
EVERYTHING = slice(None)


@dataclasses.dataclass(frozen=True)
class OnFeatures(Augmentation):
  """Base of the kinds that mask features."""

  def masks(self, num_frames: int, num_bins: int, draw: Draw) -> list[Mask]:
    """Draw masks for features [frames, bins]."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class TimeMasks(OnFeatures):
  """Masks stretches of time in the features."""

  kind = "time_masks"

  count: Strength = number("2", "How many masks, at most if per_second is given.", 0, 1000)
  per_second: Strength | None = number(None, "How many masks for each second of the utterance.", 0, 100)
  width: Strength = number("0..400", "The width of a mask, in milliseconds.", 0, 60e3)
  share: Strength = number("0.2", "The most that a mask may cover, as a share of the utterance.", 0, 1)

  def masks(self, num_frames: int, num_bins: int, draw: Draw) -> list[Mask]:
    """Draw masks for features [frames, bins]."""
    count = draw.whole("count")
    if self.per_second:
      count = min(count, int(draw.number("per_second") * num_frames / draw.rate))
    most = int(draw.number("share") * num_frames)
    return [(_place(draw.whole("width", draw.rate / 1000, most), num_frames, draw), EVERYTHING) for _ in range(count)]


@dataclasses.dataclass(frozen=True)
class FrequencyMasks(OnFeatures):
  """Masks bands of frequencies in the features."""

  kind = "frequency_masks"

  count: Strength = number("2", "How many masks.", 0, 1000)
  width: Strength = number("0..0.2", "The width of a mask, as a share of all bins.", 0, 1)

  def masks(self, num_frames: int, num_bins: int, draw: Draw) -> list[Mask]:
    """Draw masks for features [frames, bins]."""
    return [
      (EVERYTHING, _place(draw.whole("width", num_bins, num_bins), num_bins, draw)) for _ in range(draw.whole("count"))
    ]


def _place(width: int, length: int, draw: Draw) -> slice:
  """Draw where a mask of a width lies within a length; every place is as likely."""
  start = draw.place(length - width + 1)
  return slice(start, start + width)
