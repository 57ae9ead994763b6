"""Times each kind of augmentation, beside computing features of the same clip: the processor's time in one thread."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping

import numpy as np
import soundfile
from absl import flags

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


def measure(forms: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
  """Run forms in turn; return for each the processor's milliseconds, to which other programs add little."""
  milliseconds = {name: [] for name in forms}
  for turn in range(1 + runs):
    for name, form in forms.items():
      start = time.thread_time()
      form()
      # The first turn fills caches.
      if turn:
        milliseconds[name].append(1000 * (time.thread_time() - start))
  return milliseconds


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
    milliseconds = measure(forms, options.runs)
  for name, times in milliseconds.items():
    print(f"{name:>20}: median {statistics.median(times):7.2f} ms, from {min(times):.2f} to {max(times):.2f} ms")


if __name__ == "__main__":
  define_benchmark_flags()
  flags_core.run(main, __doc__)
