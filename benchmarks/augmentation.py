"""Times each kind of augmentation in one thread, beside computing features of the same clip."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import itertools
import statistics
import tempfile

import numpy as np
import soundfile
from absl import flags

from benchmarks import timing
from data import features
from data.augmentation.augmenter import KINDS, make_augmenter
from data.augmentation.recordings import Recordings
from official_utils.flags import core as flags_core
from settings import SpectrogramSettings

RATE = 16000
MORE = ("noise[color=pink]", "codec[format=ogg]", "codec[format=mp3]")


def define_benchmark_flags() -> None:
  """Define the flags for the clip."""
  flags.DEFINE_float("seconds", 10.0, "The length of the clip.", lower_bound=0.1)
  flags.DEFINE_integer("runs", 20, "The number of runs of each form, in turn.", lower_bound=1)


def main(_: list[str]) -> None:
  """Time everything in turn and print a line for each."""
  options = flags.FLAGS
  length = int(RATE * options.seconds)
  samples = np.random.default_rng(1).normal(0, 0.1, length).astype(np.float32)
  kind = features.make_features(SpectrogramSettings())
  computed = kind.compute(samples)
  with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, f"{number}.wav") for number in range(4)]
    for path in paths:
      soundfile.write(path, samples, RATE)
    others = Recordings(paths)

    def form(text):
      chosen, indices = make_augmenter([text]), itertools.count()
      if chosen.on_samples:
        return lambda: chosen.augment_samples(samples, RATE, 0, next(indices), others)
      return lambda: chosen.augment_features(computed, 100, 0, next(indices))

    forms = {"features": lambda: kind.compute(samples)} | {text: form(text) for text in (*KINDS, *MORE)}
    seconds = timing.measure(forms, options.runs)
  for name, values in seconds.items():
    times = [1000 * value for value in values]
    print(f"{name:>20}: median {statistics.median(times):7.2f} ms, from {min(times):.2f} to {max(times):.2f} ms")


if __name__ == "__main__":
  define_benchmark_flags()
  flags_core.run(main, __doc__)
