"""Signal processing on samples, in numpy: what the kinds of augmentation are made of."""

import numpy as np

from data.spectra import periodic_hann

# The window of the phase vocoder, in seconds. Twice as much blurs speech by half as much again.
VOCODER_SECONDS = 0.032
# Frames of the phase vocoder overlap by three quarters.
OVERLAP = 4
# Below this, in hertz, coloured noise is flat: nobody would hear that most of its power is there.
LOWEST_HERTZ = 20.0


def power(samples: np.ndarray) -> float:
  """Return the mean square of float [samples]."""
  return float(np.mean(np.square(samples, dtype=np.float64)))


def fast_length(length: int) -> int:
  """Return the smallest length of at least `length` that the FFT is fast for: a power of two, times 1, 3, 5, 9 or 15."""
  return min(odd * 2 ** max(0, (-(-length // odd) - 1).bit_length()) for odd in (1, 3, 5, 9, 15))


def stretch(samples: np.ndarray, rate: float, sample_rate: float) -> np.ndarray:
  """Change the speed of a clip and keep its pitch, by a phase vocoder.

  Args:
    samples: float32 [samples].
    rate: how many times as fast it becomes.
    sample_rate: samples a second.

  Returns:
    float32 [round(samples / rate)], at least one sample, as loud as before.
  """
  window_size = OVERLAP * max(1, round(VOCODER_SECONDS * sample_rate / OVERLAP))
  hop = window_size // OVERLAP
  window = periodic_hann(window_size).astype(np.float32)
  # Frames are centred at multiples of the hop; the last one, of zeros, ends the last interval.
  padded = np.pad(samples, (window_size // 2, window_size // 2 + 2 * hop))
  frames = np.lib.stride_tricks.sliding_window_view(padded, window_size)[::hop]
  spectra = np.fft.rfft(frames * window)
  length = max(1, round(len(samples) / rate))
  positions = np.arange(0, len(frames) - 1, rate)[: length // hop + 2]
  joined = _overlap_add(np.fft.irfft(_resynthesize(spectra, positions), window_size) * window, hop)
  # At both ends fewer frames overlap.
  joined /= np.maximum(_overlap_add(np.broadcast_to(window**2, (len(positions), window_size)), hop), 0.1)
  stretched = joined[window_size // 2 :][:length].astype(np.float32)
  # Bins whose phases have come apart cancel each other, which costs some 3 dB.
  return stretched * np.float32(np.sqrt(power(samples) / (power(stretched) or 1)))


def _resynthesize(spectra: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """Interpolate spectra at positions between them, and turn the phases on so that each frame continues the one before.

  Args:
    spectra: complex [frames, bins], a hop apart.
    positions: [new frames], at most frames - 1, exclusive.

  Returns:
    complex [new frames, bins], to be put a hop apart.
  """
  before = positions.astype(np.int64)
  share = (positions - before)[:, np.newaxis].astype(np.float32)
  magnitudes = np.abs(spectra)
  # The first phases, then what each hop turns them by, as complex numbers of size 1: their products need no angles, and
  # no unwrapping of angles. Silence turns nothing.
  turns = np.concatenate([spectra[:1], spectra[before[:-1] + 1] * spectra[before[:-1]].conj()])
  turns += np.float32(1e-30)
  turns /= np.abs(turns)
  phases = np.cumprod(turns, axis=0)
  return phases * (magnitudes[before] * (1 - share) + magnitudes[before + 1] * share)


def _overlap_add(frames: np.ndarray, hop: int) -> np.ndarray:
  """Add up frames [frames, OVERLAP * hop] that begin a hop apart: [(frames + OVERLAP - 1) * hop]."""
  joined = np.zeros((len(frames) + OVERLAP - 1, hop), frames.dtype)
  for part in range(OVERLAP):
    joined[part : part + len(frames)] += frames[:, part * hop : (part + 1) * hop]
  return joined.ravel()


def colored_noise(length: int, exponent: float, sample_rate: float, rng: np.random.Generator) -> np.ndarray:
  """Make noise whose power falls with the frequency to the power of `exponent`: 0 is white, 1 pink, 2 brown.

  Args:
    length: samples.
    exponent: how fast the power falls.
    sample_rate: samples a second.
    rng: draws it.

  Returns:
    float32 [length].
  """
  if not exponent:
    return rng.standard_normal(length, np.float32)
  size = fast_length(length)
  hertz = np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), LOWEST_HERTZ)
  spectrum = rng.standard_normal(2 * len(hertz), np.float32).view(np.complex64) * hertz ** (-exponent / 2)
  return np.fft.irfft(spectrum, size)[:length].astype(np.float32)


def room(rt60: float, direct_to_reverberant: float, sample_rate: float, rng: np.random.Generator) -> np.ndarray:
  """Make the impulse response of a room: the direct sound, then noise that decays exponentially.

  Args:
    rt60: seconds in which the noise falls by 60 dB; it ends there.
    direct_to_reverberant: energy of the direct sound over that of the noise, in decibels.
    sample_rate: samples a second.
    rng: draws the noise.

  Returns:
    float32 [samples], the first one 1.
  """
  decay = 10 ** (-3 * np.arange(1, max(2, round(rt60 * sample_rate))) / (rt60 * sample_rate))
  tail = rng.standard_normal(len(decay)) * decay
  tail *= 10 ** (-direct_to_reverberant / 20) / np.linalg.norm(tail)
  return np.concatenate([[1], tail]).astype(np.float32)


def convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
  """Convolve float [samples] with an impulse response; what comes after the clip's end is cut off."""
  size = fast_length(len(samples) + len(response) - 1)
  spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
  return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def band_pass(samples: np.ndarray, low: float, high: float, sample_rate: float) -> np.ndarray:
  """Keep the frequencies from `low` to `high` hertz; a third of an octave beyond them nothing is left.

  Args:
    samples: float32 [samples].
    low: the lowest frequency that is kept.
    high: the highest.
    sample_rate: samples a second.

  Returns:
    float32 [samples], not delayed.
  """
  # Zeros after the clip, as long as the filter rings, keep its end out of its beginning.
  size = fast_length(len(samples) + int(8 * sample_rate / low))
  octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 1e-9))
  inside = np.minimum(octaves - np.log2(low), np.log2(high) - octaves)
  gains = np.sin(np.pi / 2 * np.clip(1 + 3 * inside, 0, 1)) ** 2
  return np.fft.irfft(np.fft.rfft(samples, size) * gains, size)[: len(samples)].astype(np.float32)


def mu_law(samples: np.ndarray) -> np.ndarray:
  """Round float32 [samples] to the 255 levels of telephony, closer for quiet samples; louder ones than 1 are clipped."""
  compressed = np.copysign(np.log1p(255 * np.minimum(np.abs(samples), 1)) / np.log(256), samples)
  rounded = np.round(compressed * 127) / 127
  return np.copysign(np.expm1(np.abs(rounded) * np.log(256)) / 255, rounded).astype(np.float32)
