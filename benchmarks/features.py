"""Times computing features in one thread, from samples to normalised frames, against the original and other kinds."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import functools
from collections.abc import Sequence

import numpy as np
from absl import flags

from benchmarks import original_input, timing
from data.features import Features, make_features
from official_utils.flags import core as flags_core
from settings import FEATURES, SpectrogramSettings

RATE = 16000


def define_benchmark_flags() -> None:
  """Define the flags for the amount of audio."""
  flags.DEFINE_integer("clips", 100, "The number of clips, from 2 to 16 seconds long.", lower_bound=1)
  timing.define_timing_flags(["original_form", *sorted(FEATURES.keys() - {SpectrogramSettings.kind})])


def _compute_all(features: Features, clips: Sequence[np.ndarray]) -> list[int]:
  """Compute the features of all clips and count their frames."""
  return [len(features.compute(clip)) for clip in clips]


def main(_: list[str]) -> None:
  """Time the forms in turn and print medians, spread and ratio."""
  options = flags.FLAGS
  generator = np.random.default_rng(1)
  # float64, as the original reads files; ours reads float32.
  clips = [generator.uniform(-0.5, 0.5, int(RATE * seconds)) for seconds in np.linspace(2, 16, options.clips)]
  ours = [clip.astype(np.float32) for clip in clips]
  kinds = {name: make_features(kind(sample_rate=RATE)) for name, kind in FEATURES.items()}
  forms = {name: functools.partial(_compute_all, each, ours) for name, each in kinds.items()}
  forms[timing.OURS] = forms.pop(SpectrogramSettings.kind)
  forms["original_form"] = lambda: list(map(len, map(original_input.featurize, clips)))
  seconds = timing.measure(timing.choose(forms, options.peer), options.runs)
  duration = sum(map(len, clips)) / RATE
  timing.report("features", f"{options.clips} clips, {duration:.0f} s of audio", seconds)


if __name__ == "__main__":
  define_benchmark_flags()
  flags_core.run(main, __doc__)
