"""The settings of each kind of features: how audio becomes what a network reads."""

import dataclasses

from official_utils.misc.errors import UserError
from settings.declaration import Settings, setting


@dataclasses.dataclass(frozen=True)
class FeatureSettings(Settings):
  """How audio becomes features: the settings that all kinds share."""

  sample_rate: int = setting(16000, "Samples a second; audio at other rates is converted.", at_least=1)
  window_ms: float = setting(20, "The length of a frame of the spectrogram, in milliseconds.", at_least=1)
  stride_ms: float = setting(10, "The time from one frame of the spectrogram to the next, in milliseconds.", at_least=1)
  feature_norm: str = setting(
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
