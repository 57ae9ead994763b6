"""The kinds of augmentation that change samples."""

import dataclasses
import functools
import io

import numpy as np

from data import audio
from data.augmentation import signals
from data.augmentation.parameters import Augmentation, Draw, Strength, number, word
from data.augmentation.recordings import Recordings
from official_utils.misc.errors import UserError

# How fast the power of each kind of noise falls with the frequency.
COLORS = {"white": 0.0, "pink": 1.0, "brown": 2.0}
# Samples that an encoder is given at once: Vorbis' fills the stack with more.
ENCODED_AT_ONCE = 4096
SNR = "The power of the speech over that of the noise, in decibels."


@dataclasses.dataclass(frozen=True)
class OnSamples(Augmentation):
  """Base of the kinds that change samples."""

  changes_length = False

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return float32 [samples], augmented; the given ones, at least one, are left as they are."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Shift(OnSamples):
  """Puts silence before the clip or after it."""

  kind = "shift"
  changes_length = True

  ms: Strength = number("-250..250", "Milliseconds of silence: after the clip, or before it if negative.", -60e3, 60e3)

  def longest(self, seconds: float) -> float:
    """Return the most that a clip of so many seconds may become, in seconds."""
    return seconds + max(-self.ms.lowest, self.ms.highest) / 1000

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return the clip with zeros before or after it."""
    count = int(np.floor(draw.number("ms") * draw.rate / 1000))
    return np.pad(samples, (max(0, -count), max(0, count)))


@dataclasses.dataclass(frozen=True)
class Stretch(OnSamples):
  """Makes speech faster or slower and keeps its pitch."""

  kind = "stretch"
  changes_length = True

  rate: Strength = number("0.8..1.2", "How many times as fast it becomes.", 0.5, 2)

  def longest(self, seconds: float) -> float:
    """Return the most that a clip of so many seconds may become, in seconds."""
    return seconds / min(1, self.rate.lowest)

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return the clip, shorter or longer."""
    return signals.stretch(samples, draw.number("rate"), draw.rate)


@dataclasses.dataclass(frozen=True)
class Speed(Stretch):
  """Plays speech faster or slower, with its pitch."""

  kind = "speed"

  rate: Strength = number("0.9..1.1", "How many times as fast and as high it becomes.", 0.5, 2)

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return the clip, shorter or longer."""
    return audio.convert_samples(samples, draw.number("rate") * draw.rate, int(draw.rate))


@dataclasses.dataclass(frozen=True)
class Gain(OnSamples):
  """Makes the clip louder or quieter."""

  kind = "gain"

  db: Strength = number("-10..10", "Decibels. Features that are normalised over the utterance do not show it.", -60, 60)

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return the clip at another level."""
    return samples * np.float32(10 ** (draw.number("db") / 20))


@dataclasses.dataclass(frozen=True)
class Noise(OnSamples):
  """Mixes in noise: recordings of it, or random numbers."""

  kind = "noise"

  dir: str | None = word(None, "A folder of recordings of noise, one of which is drawn, with its beginning.")
  color: str | None = word(None, "The kind of noise that is made; white if no folder is given.", tuple(COLORS))
  snr: Strength | None = number(None, f"{SNR} 10..20 if there is no mix.", -30, 100)
  mix: Strength | None = number(None, "In place of snr, the noise's share of the mixture, at equal peaks.", 0, 1)

  def __post_init__(self) -> None:
    """Refuse what excludes each other, and a folder without recordings."""
    super().__post_init__()
    for one, other in (("dir", "color"), ("snr", "mix")):
      if getattr(self, one) and getattr(self, other):
        raise UserError(f"--augment={self.kind} has both {one} and {other}; leave one out")
    if not self.mix and not self.snr:
      object.__setattr__(self, "snr", Strength.parse("10..20"))
    if self.dir:
      len(self._recordings)

  @functools.cached_property
  def _recordings(self) -> Recordings:
    """The recordings of noise."""
    return Recordings.in_folder(self.dir or "")

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return the clip with noise."""
    noise = self._make(len(samples), draw)
    if self.mix:
      return mix_at_peaks(samples, noise, draw.number("mix"))
    return mix_at_snr(samples, noise, draw.number("snr"))

  def _make(self, length: int, draw: Draw) -> np.ndarray:
    """Make float32 [length] of noise."""
    if not self.dir:
      return signals.colored_noise(length, COLORS[self.color or "white"], draw.rate, draw.rng)
    place = draw.place(len(self._recordings))
    draw.note("file", self._recordings.paths[place])
    return self._recordings.excerpt(place, int(draw.rate), length, draw.rng)


@dataclasses.dataclass(frozen=True)
class Babble(OnSamples):
  """Mixes in other utterances of the training set, all at once."""

  kind = "babble"

  voices: Strength = number("3..6", "How many utterances, all equally loud.", 1, 20)
  snr: Strength = number("10..20", SNR, -30, 100)

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return the clip with other voices."""
    if not draw.others:
      return samples
    babble = np.zeros_like(samples)
    for _ in range(draw.whole("voices")):
      # Any but this one, unless there is no other.
      step = 1 + draw.place(max(1, len(draw.others) - 1))
      voice = draw.others.excerpt((draw.index + step) % len(draw.others), int(draw.rate), len(samples), draw.rng)
      babble += voice / np.float32(max(np.sqrt(signals.power(voice)), 1e-9))
    return mix_at_snr(samples, babble, draw.number("snr"))


@dataclasses.dataclass(frozen=True)
class Reverb(OnSamples):
  """Puts the speaker into a room: echoes that decay exponentially."""

  kind = "reverb"

  rt60: Strength = number("0.2..0.8", "Seconds in which the echoes fall by 60 dB.", 0.01, 10)
  drr: Strength = number("0..10", "The energy of the direct sound over that of the echoes, in decibels.", -30, 60)

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return the clip with echoes, as long as it was."""
    return signals.convolve(samples, signals.room(draw.number("rt60"), draw.number("drr"), draw.rate, draw.rng))


@dataclasses.dataclass(frozen=True)
class Band(OnSamples):
  """Keeps a band of frequencies, by default that of a telephone."""

  kind = "band"

  low: Strength = number("300", "The lowest frequency that is kept, in hertz.", 1, 20e3)
  high: Strength = number("3400", "The highest frequency that is kept, in hertz.", 100, 100e3)

  def __post_init__(self) -> None:
    """Refuse a band that may be empty."""
    super().__post_init__()
    if self.low.highest >= self.high.lowest:
      raise UserError(f"--augment={self.kind}[low={self.low},high={self.high}]: low must stay below high; lower it")

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return the clip without the other frequencies."""
    return signals.band_pass(samples, draw.number("low"), draw.number("high"), draw.rate)


@dataclasses.dataclass(frozen=True)
class Codec(OnSamples):
  """Encodes the clip with losses and decodes it again."""

  kind = "codec"

  format: str = word("mulaw", "What it is encoded as: 8-bit telephony, OGG Vorbis or MP3.", ("mulaw", "ogg", "mp3"))

  def apply(self, samples: np.ndarray, draw: Draw) -> np.ndarray:
    """Return the clip as it is after decoding, as long as it was."""
    return signals.mu_law(samples) if self.format == "mulaw" else round_trip(samples, int(draw.rate), self.format)


def round_trip(samples: np.ndarray, sample_rate: int, container: str) -> np.ndarray:
  """Encode and decode float32 [samples] by libsndfile's encoder for a container, "ogg" or "mp3"."""
  import soundfile

  file = io.BytesIO()
  # As integers would be clipped; and far above full scale the encoders end the process.
  clipped = samples.clip(-1, 1)
  try:
    with soundfile.SoundFile(file, "w", sample_rate, 1, format=container.upper()) as encoder:
      for start in range(0, len(clipped), ENCODED_AT_ONCE):
        encoder.write(clipped[start : start + ENCODED_AT_ONCE])
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
  except (soundfile.SoundFileError, ValueError) as error:
    raise UserError(
      f"--augment=codec[format={container}]: cannot encode at {sample_rate} Hz ({str(error).rstrip('.')}); choose "
      "another format or --sample_rate"
    ) from error
  result = np.zeros_like(samples)
  result[: len(decoded)] = decoded[: len(samples)]
  return result


def mix_at_snr(samples: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
  """Add noise at a ratio of powers in decibels; if one of both is silent, the clip stays as it is."""
  loudness = signals.power(noise)
  scale = np.sqrt(signals.power(samples) / loudness / 10 ** (snr / 10)) if loudness else 0
  return samples + np.float32(scale) * noise


def mix_at_peaks(samples: np.ndarray, noise: np.ndarray, share: float) -> np.ndarray:
  """Average the clip and noise whose largest sample is as large; if one of both has none above 0, leave the clip."""
  peaks = samples.max(), noise.max()
  if min(peaks) <= 0:
    return samples
  return np.float32(1 - share) * samples + np.float32(share * peaks[0] / peaks[1]) * noise
