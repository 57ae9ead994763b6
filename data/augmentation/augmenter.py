"""Augments utterances: each draw follows from the seed, the epoch, the utterance and the augmentation's place alone."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from data.augmentation import masks, parameters, waveforms
from data.augmentation.masks import OnFeatures
from data.augmentation.parameters import Augmentation, Draw
from data.augmentation.recordings import Recordings
from data.augmentation.waveforms import OnSamples

KINDS: dict[str, type[Augmentation]] = {
  each.kind: each
  for each in (
    waveforms.Shift,
    waveforms.Stretch,
    waveforms.Speed,
    waveforms.Gain,
    waveforms.Noise,
    waveforms.Babble,
    waveforms.Reverb,
    waveforms.Band,
    waveforms.Codec,
    masks.TimeMasks,
    masks.FrequencyMasks,
  )
}
# In a list of augmentations: forget those before it.
NONE = "none"

_Kind = TypeVar("_Kind", bound=Augmentation)


@dataclasses.dataclass(frozen=True)
class Augmenter:
  """A list of augmentations in the order in which they are applied; threads may share it.

  Attributes:
    augmentations: the list.
    seed: the run's seed.
    num_epochs: the epochs of the run, over which strengths move.
  """

  augmentations: tuple[Augmentation, ...]
  seed: int = 1
  num_epochs: int = 1

  @property
  def on_samples(self) -> list[str]:
    """The names of the augmentations that change samples."""
    return [each.kind for each in self.augmentations if isinstance(each, OnSamples)]

  def longest(self, seconds: float) -> float:
    """Return the most that a clip of so many seconds may become, in seconds."""
    for each in self.augmentations:
      seconds = each.longest(seconds)
    return seconds

  def augment_samples(
    self,
    samples: np.ndarray,
    sample_rate: int,
    epoch: int,
    index: int,
    others: Recordings | None = None,
    keep_length: bool = False,
  ) -> np.ndarray:
    """Augment the samples of an utterance.

    Args:
      samples: float32 [samples], at least one.
      sample_rate: samples a second.
      epoch: the epoch, from 0 on.
      index: the utterance's place in the training set.
      others: the recordings of the training set.
      keep_length: whether to leave out what changes the length; the other draws stay the same.

    Returns:
      float32 [samples], of another length unless it is to be kept.
    """
    for augmentation, draw in self.draws(OnSamples, sample_rate, epoch, index, others):
      if not (keep_length and augmentation.changes_length):
        samples = augmentation.apply(samples, draw)
    return samples

  def augment_features(
    self, features: np.ndarray, frame_rate: float, epoch: int, index: int, is_centered: bool = True
  ) -> np.ndarray:
    """Mask the features of an utterance.

    Args:
      features: float [frames, bins]; masked in place if it can be written to.
      frame_rate: frames a second.
      epoch: the epoch, from 0 on.
      index: the utterance's place in the training set.
      is_centered: whether the mean of each bin over the utterance is 0.

    Returns:
      The features; what is masked has the mean of its bin.
    """
    num_frames, num_bins = features.shape
    drawn = [
      mask
      for augmentation, draw in self.draws(OnFeatures, frame_rate, epoch, index)
      for mask in augmentation.masks(num_frames, num_bins, draw)
    ]
    if drawn:
      features = features if features.flags.writeable else features.copy()
      mean = None if is_centered else features.mean(axis=0, dtype=np.float32)
      for frames, bins in drawn:
        features[frames, bins] = 0 if mean is None else mean[bins]
    return features

  def draws(
    self, kind: type[_Kind], rate: float, epoch: int, index: int, others: Recordings | None = None
  ) -> Iterator[tuple[_Kind, Draw]]:
    """Yield the augmentations of a kind that happen to an utterance, each with what draws its parameters.

    Args:
      kind: OnSamples or OnFeatures.
      rate: samples or frames a second.
      epoch: the epoch, from 0 on.
      index: the utterance's place in the training set.
      others: the recordings of the training set.
    """
    progress = min(1.0, epoch / max(1, self.num_epochs - 1))
    for place, augmentation in enumerate(self.augmentations):
      if isinstance(augmentation, kind):
        draw = Draw(augmentation, (self.seed, epoch, index, place), progress, rate, index, others)
        if draw.happens:
          yield augmentation, draw


def make_augmenter(texts: Sequence[str], seed: int = 1, num_epochs: int = 1) -> Augmenter | None:
  """Make the augmenter that values of --augment ask for; None if there is nothing to do.

  Args:
    texts: "NAME" or "NAME[KEY=VALUE,...]" each, in the order in which they are applied; "none" drops those before it.
    seed: the run's seed.
    num_epochs: the epochs of the run.
  """
  chosen: list[Augmentation] = []
  for text in texts:
    if text.strip() == NONE:
      chosen.clear()
    else:
      chosen.append(parameters.parse(text, KINDS))
  return Augmenter(tuple(chosen), seed, num_epochs) if chosen else None
