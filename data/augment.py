"""Shows what augmentations do: writes a recording as each makes it, with pictures, and prints what was drawn."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  from official_utils.misc import commands

  commands.begin()

import dataclasses

import numpy as np
from absl import flags

from data import audio
from data.augmentation import pictures
from data.augmentation.augmenter import KINDS, Augmenter, make_augmenter
from data.augmentation.masks import OnFeatures
from data.augmentation.parameters import Draw, Strength, describe
from data.augmentation.recordings import Recordings
from data.augmentation.signals import power
from data.augmentation.waveforms import OnSamples
from data.features import make_features
from official_utils.flags import core as flags_core
from official_utils.misc import files
from official_utils.misc.errors import UserError
from settings import SpectrogramSettings

# What a picture shows: features down to this far below the loudest one, in nepers of power (80 dB).
DEPTH = 18.4
# Below this a level is not worth telling apart from silence.
QUIETEST_DECIBELS = -120.0
COLUMNS = "{:28} {:>8} {:>10} {:>11}  {}"


def define_augment_flags() -> None:
  """Define the flags of this program."""
  define = flags_core.definer(flags.FLAGS)
  define(flags.DEFINE_string, "preview", None, "The recording that is augmented.")
  define(
    flags.DEFINE_multi_string,
    "augment",
    [],
    """An augmentation, as deep_speech.py takes it. Each is shown alone, and several also together. Not given: every kind.
    For several""",
  )
  define(flags.DEFINE_integer, "sample_rate", 16000, "Samples a second of what is written.", lower_bound=1000)
  define(flags.DEFINE_integer, "seed", 1, "Another seed draws other values.", lower_bound=0)
  define(flags.DEFINE_integer, "epoch", 0, "The epoch, from 0 on, for strengths that move.", lower_bound=0)
  define(flags.DEFINE_integer, "train_epochs", 1, "The epochs of the training.", lower_bound=1)


def description() -> str:
  """Describe the program and every kind of augmentation with its parameters."""
  kinds = "\n".join(f"  {line}" for kind in KINDS.values() for line in describe(kind))
  return (
    f"{__doc__}\n\npython data/augment.py --preview=RECORDING DIR\n\n"
    "A number is written as 0.5, drawn from a range as 0.2..0.8, and moves over training as 0:0.5 or 0..0.2:0.2..0.8,\n"
    f"from the first epoch to the last. The names, and the keys of each:\n\n{kinds}"
  )


class Preview:
  """Writes a recording as augmentations make it."""

  def __init__(self, path: str, folder: str, sample_rate: int):
    """Read the recording and write it with its picture.

    Args:
      path: the recording.
      folder: where everything goes.
      sample_rate: samples a second.
    """
    self._rate = sample_rate
    self._folder = folder
    self._samples = audio.read_audio(path, sample_rate)
    self._recordings = Recordings([path])
    self._features = make_features(SpectrogramSettings(sample_rate=sample_rate, feature_norm="none"))
    self._plain = self._features.compute(self._samples)
    print(COLUMNS.format("", "seconds", "level, dB", "centroid, Hz", "drawn"))
    self._write("original", self._samples, self._plain, [])

  def show(self, name: str, augmenter: Augmenter, epoch: int) -> None:
    """Write what an augmenter makes of the recording, and print a line.

    Args:
      name: the files' name, without an extension.
      augmenter: augments it.
      epoch: the epoch, from 0 on.
    """
    samples, drawn = self._samples, []
    for on_samples, draw in augmenter.draws(OnSamples, self._rate, epoch, 0, self._recordings):
      samples = on_samples.apply(samples, draw)
      drawn.append(draw)
    features = self._features.compute(samples)
    frame_rate = 1 / self._features.settings.frame_seconds
    # Only to learn what is drawn: the same is drawn again below.
    for on_features, draw in augmenter.draws(OnFeatures, frame_rate, epoch, 0):
      on_features.masks(len(features), self._features.num_bins, draw)
      drawn.append(draw)
    features = augmenter.augment_features(features, frame_rate, epoch, 0, is_centered=False)
    self._write(name, samples, features, drawn)

  def _write(self, name: str, samples: np.ndarray, features: np.ndarray, drawn: list[Draw]) -> None:
    """Write samples as they are and features below those of the recording, and print a line."""
    import soundfile

    path = os.path.join(self._folder, name)
    high = float(self._plain.max())
    shown = [self._plain, features] if drawn else [features]
    drawings = [pictures.draw_features(each, high - DEPTH, high) for each in shown]
    try:
      # Not as integers, which would clip what became too loud.
      soundfile.write(f"{path}.wav", samples, self._rate, subtype="FLOAT")
      pictures.write_png(f"{path}.png", pictures.stack(drawings))
    except (OSError, soundfile.SoundFileError) as error:
      raise UserError(f"{path}: cannot be written ({error}); give another folder") from error
    values = [
      f"{key}={value:.4g}" if isinstance(value, (int, float)) else f"{key}={value}"
      for draw in drawn
      for key, value in draw.drawn
    ]
    seconds = f"{len(samples) / self._rate:.3f}"
    numbers = [seconds, f"{level(samples):.1f}", f"{centroid(samples, self._rate):.0f}"]
    print(COLUMNS.format(name, *numbers, " ".join(values)).rstrip(), flush=True)


def level(samples: np.ndarray) -> float:
  """Return the level of float [samples] in decibels below full scale."""
  return max(QUIETEST_DECIBELS, 10 * np.log10(power(samples) + 1e-30))


def centroid(samples: np.ndarray, sample_rate: int) -> float:
  """Return the mean frequency of float [samples], weighted with the power, in hertz; 0 for silence."""
  spectrum = np.square(np.abs(np.fft.rfft(samples)))
  hertz = np.fft.rfftfreq(len(samples), 1 / sample_rate)
  return float(np.sum(hertz * spectrum) / max(np.sum(spectrum), 1e-30))


def main(arguments: list[str]) -> None:
  """Show the augmentations that the flags ask for, or one of every kind."""
  options = flags.FLAGS
  if len(arguments) != 2:
    raise UserError(f"{len(arguments) - 1} folders are given; give one, where everything goes")
  if not options.preview:
    raise UserError("--preview names no recording; give one, such as --preview=talk.wav")
  given = make_augmenter(options.augment or list(KINDS), options.seed, options.train_epochs)
  if given is None:
    raise UserError("--augment=none leaves nothing to show; leave it out")
  files.check_writable(arguments[1], "DIR")
  preview = Preview(options.preview, arguments[1], options.sample_rate)
  # A preview shows what happens rarely too.
  always = [dataclasses.replace(each, p=Strength.parse("1")) for each in given.augmentations]
  for number, each in enumerate(always, start=1):
    # Each with a seed of its own: they would all draw high values, or all low ones.
    alone = dataclasses.replace(given, augmentations=(each,), seed=options.seed + number)
    preview.show(f"{number:02d}-{each.kind}", alone, options.epoch)
  if options.augment and len(always) > 1:
    preview.show("all", dataclasses.replace(given, augmentations=tuple(always)), options.epoch)


if __name__ == "__main__":
  define_augment_flags()
  flags_core.run(main, description(), arguments="DIR")
