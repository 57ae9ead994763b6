"""The settings of each kind of features: how audio becomes what a network reads."""

import dataclasses
import math

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
    """How each bin is shifted and scaled to mean 0 and deviation 1: 'utterance' over the utterance, 'corpus' over the
    training set, 'running' over the training set and then over the frames of the utterance so far, as streaming needs
    it; 'none' leaves features as they are.""",
    choices=("utterance", "corpus", "running", "none"),
  )

  def __post_init__(self) -> None:
    """Refuse frames that leave gaps between them or that are too short for a spectrum."""
    super().__post_init__()
    window_and_hop(self.sample_rate, self.window_ms, self.stride_ms)

  @property
  def frame_seconds(self) -> float:
    """The time from one frame to the next, which is a whole number of samples."""
    return window_and_hop(self.sample_rate, self.window_ms, self.stride_ms)[1] / self.sample_rate

  @property
  def needs_statistics(self) -> bool:
    """Whether the features of an utterance depend on the training set."""
    return self.feature_norm in ("corpus", "running")


@dataclasses.dataclass(frozen=True)
class SpectrogramSettings(FeatureSettings):
  """Log power spectrograms, the original's features."""

  kind = "spectrogram"


@dataclasses.dataclass(frozen=True)
class TransformSettings(FeatureSettings):
  """What the kinds share whose Fourier transform may be longer than the window."""

  fft_length: int = setting(
    0,
    """The samples of a Fourier transform; beyond the window they are zeros. 0: as many as the window has with
    --features=log_mel, and the next power of two with --features=magnitude.""",
    at_least=0,
  )

  def __post_init__(self) -> None:
    """Refuse a transform that would cut off the window's end."""
    super().__post_init__()
    if 0 < self.fft_length < self.window_size:
      raise UserError(
        f"--fft_length={self.fft_length} is shorter than the window, --window_ms={self.window_ms}, which is "
        f"{self.window_size} samples at {self.sample_rate} Hz: raise --fft_length to {self.window_size} or more"
      )

  @property
  def window_size(self) -> int:
    """The samples of a window."""
    return window_and_hop(self.sample_rate, self.window_ms, self.stride_ms)[0]

  @property
  def num_points(self) -> int:
    """The samples of a Fourier transform."""
    return self.fft_length or self.window_size


@dataclasses.dataclass(frozen=True)
class LogMelSettings(TransformSettings):
  """Logarithms of the power in bands that are equally wide to the ear."""

  kind = "log_mel"

  num_mel_bins: int = setting(80, "How many bands --features=log_mel has.", at_least=1)
  lower_edge_hertz: float = setting(0.0, "Where the lowest band of --features=log_mel begins, in hertz.", at_least=0)
  upper_edge_hertz: float = setting(
    0.0, "Where the highest band of --features=log_mel ends, in hertz. 0: at half the sample rate.", at_least=0
  )
  log_offset: float = setting(1e-6, "What --features=log_mel adds to the power before it takes the logarithm.")

  def __post_init__(self) -> None:
    """Refuse bands that are none, and an offset that single precision cannot hold."""
    super().__post_init__()
    if not 1e-20 <= self.log_offset < math.inf:
      raise UserError(f"--log_offset={self.log_offset} is out of range; give 1e-20 or more, such as 1e-06")
    half = self.sample_rate / 2
    if self.upper_edge_hertz > half:
      raise UserError(
        f"--upper_edge_hertz={self.upper_edge_hertz} is above half of --sample_rate={self.sample_rate}: "
        f"lower --upper_edge_hertz to {half:g} or less"
      )
    if self.lower_edge_hertz >= (self.upper_edge_hertz or half):
      raise UserError(
        f"--lower_edge_hertz={self.lower_edge_hertz} is not below the upper edge, {self.upper_edge_hertz or half:g} "
        "Hz: lower --lower_edge_hertz, for instance to 0"
      )
    self._check_bands()

  def edges(self) -> list[float]:
    """Return where the bands begin and end, in hertz: band i rises from edge i to i + 1 and falls from there to i + 2."""
    return [self._edge(number, self.num_mel_bins) for number in range(self.num_mel_bins + 2)]

  def _edge(self, number: int, num_mel_bins: int) -> float:
    """Return an edge of so many bands, in hertz."""
    low, high = _to_mel(self.lower_edge_hertz), _to_mel(self.upper_edge_hertz or self.sample_rate / 2)
    return _to_hertz(low + (high - low) * number / (num_mel_bins + 1))

  def _empty_band(self, num_mel_bins: int) -> int | None:
    """Find the first of so many bands that holds no frequency of the Fourier transform; None if each holds one."""
    spacing = self.sample_rate / self.num_points
    for number in range(num_mel_bins):
      # A frequency at an edge has no weight, and rounding must not give it any.
      following = (math.floor(self._edge(number, num_mel_bins) / spacing + 1e-6) + 1) * spacing
      if following > self._edge(number + 2, num_mel_bins) - 1e-6 * spacing:
        return number
    return None

  def _check_bands(self) -> None:
    """Refuse bands so narrow that one of them holds no frequency of the Fourier transform."""
    empty = self._empty_band(self.num_mel_bins)
    if empty is None:
      return
    begin, end = (self._edge(number, self.num_mel_bins) for number in (empty, empty + 2))
    remedies = []
    # The first band is the narrowest, and whatever is wider than the spacing of the frequencies holds one.
    narrowest = self._edge(2, self.num_mel_bins) - self._edge(0, self.num_mel_bins)
    if narrowest > _NARROWEST_HERTZ:
      remedies.append(f"raise --fft_length to {2 ** math.ceil(math.log2(self.sample_rate / narrowest) + 1e-6)}")
    # A frequency lies in two bands at most.
    fewer = range(min(self.num_mel_bins - 1, self.num_points), 0, -1)
    most = next((count for count in fewer if self._empty_band(count) is None), None)
    if most:
      remedies.append(f"lower --num_mel_bins to {most}")
    raise UserError(
      f"--num_mel_bins={self.num_mel_bins} is too many for a Fourier transform of {self.num_points} samples: the band "
      f"from {begin:.2f} to {end:.2f} Hz holds none of its frequencies, which are {self.sample_rate / self.num_points:g} "
      f"Hz apart; {' or '.join(remedies) or 'move --lower_edge_hertz and --upper_edge_hertz apart'}"
    )


@dataclasses.dataclass(frozen=True)
class MagnitudeSettings(TransformSettings):
  """Magnitudes of the Fourier transform, the features of the first version."""

  kind = "magnitude"

  @property
  def num_points(self) -> int:
    """The samples of a Fourier transform."""
    return self.fft_length or 1 << (self.window_size - 1).bit_length()


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


# Slaney's scale, which librosa takes by default: equal steps up to 1000 Hz, and 27 more from there to 6400 Hz, each
# higher than the one before by the same factor.
_HERTZ_PER_MEL = 200 / 3
_BREAK_HERTZ = 1000.0
_BREAK_MEL = _BREAK_HERTZ / _HERTZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27
# No Fourier transform is suggested for the sake of a band below this.
_NARROWEST_HERTZ = 0.1


def _to_mel(hertz: float) -> float:
  if hertz < _BREAK_HERTZ:
    return hertz / _HERTZ_PER_MEL
  return _BREAK_MEL + math.log(hertz / _BREAK_HERTZ) / _LOG_STEP


def _to_hertz(mel: float) -> float:
  if mel < _BREAK_MEL:
    return mel * _HERTZ_PER_MEL
  return _BREAK_HERTZ * math.exp((mel - _BREAK_MEL) * _LOG_STEP)
