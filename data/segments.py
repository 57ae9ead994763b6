"""Cuts a long recording at its silences into clips that a network can take.

Silence is told by energy alone, in numpy: no further dependency and no model to load, and a speech network wants generous
clips, not tight ones. What a detector of voices would also throw out (music, steps) costs some computing and no words.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

FRAME_SECONDS = 0.01
# Frames that lie wholly in a pause of half a second, wherever it begins: such a pause cuts.
PAUSE_FRAMES = 49
# What is kept of a pause on each side.
MARGIN_FRAMES = 10
# The threshold is found anew for every scene, from the frames of the scene, of the one before and of the one after.
SCENE_SECONDS = 40
# Levels in dB of full scale. A sample below the smallest is digital silence, or what resampling makes of it.
DIGITAL_SILENCE = 1e-5
LOWEST_LEVEL = -100.0
LOWEST_THRESHOLD = -70.0
# Sound is this much above the noise floor, but neither so near to the loudest frames nor so far below them.
ABOVE_FLOOR = 8.0
BELOW_LOUDEST = (20.0, 45.0)


class Clip(NamedTuple):
  """A piece of a recording: where it begins, in samples from the recording's beginning, and its float32 [samples]."""

  start: int
  samples: np.ndarray


class _Stretch(NamedTuple):
  """Some of a recording and what is known of its frames, the last of which may be cut off by the recording's end."""

  samples: np.ndarray
  levels: np.ndarray
  audible: np.ndarray  # Not digital silence.
  loud: np.ndarray  # Above the threshold.

  def then(self, other: "_Stretch") -> "_Stretch":
    return _Stretch(*map(np.concatenate, zip(self, other, strict=True)))

  def after(self, frame: int, frame_samples: int) -> "_Stretch":
    return _Stretch(self.samples[frame * frame_samples :], *(array[frame:] for array in self[1:]))


def cut_at_silences(blocks: Iterable[np.ndarray], sample_rate: int, longest_seconds: float = 30.0) -> Iterator[Clip]:
  """Cut a recording into clips, in order and without overlap; every sound lies in exactly one of them.

  A recording that is short enough comes out whole. In a longer one, what stands between digital silences of half a second
  comes out whole too, up to the sample, if it is short enough: so clips that somebody joined come apart again. What is
  longer is cut at every pause of half a second, and where there is none, at the longest quiet place in the second half of
  what a clip can hold, or at its quietest frame. Digital silence alone gives no clips, however short the recording, and a
  long recording gives none where it is quiet.

  Args:
    blocks: float32 [samples] after [samples]. How the recording is cut into blocks makes no difference.
    sample_rate: samples a second.
    longest_seconds: the most that a clip holds; a second at least.

  Yields:
    The clips. Some 4 minutes of the recording are in memory at once, or three clips of `longest_seconds` if that is more.
  """
  longest = int(longest_seconds * sample_rate)
  frame_samples = round(FRAME_SECONDS * sample_rate)
  scenes = _rechunk(blocks, round(SCENE_SECONDS / FRAME_SECONDS) * frame_samples)
  return _cut(_judge(scenes, frame_samples), frame_samples, longest)


def sound_threshold(levels: np.ndarray) -> float:
  """Find the level above which a frame is sound, from [frames] levels in dB that are not digital silence."""
  if not len(levels):
    return LOWEST_THRESHOLD
  floor, loudest = np.percentile(levels, (5, 99))
  near, far = BELOW_LOUDEST
  return max(np.clip(floor + ABOVE_FLOOR, loudest - far, loudest - near), LOWEST_THRESHOLD)


def measure_frames(samples: np.ndarray, frame_samples: int) -> tuple[np.ndarray, np.ndarray]:
  """Compute the level in dB of each frame, float32 [frames], and whether it is more than digital silence, bool [frames]."""
  missing = -len(samples) % frame_samples
  frames = (np.pad(samples, (0, missing)) if missing else samples).reshape(-1, frame_samples)
  power = np.einsum("ft,ft->f", frames, frames) / frame_samples
  levels = 10 * np.log10(np.maximum(power, 10 ** (LOWEST_LEVEL / 10)))
  return levels, np.maximum(frames.max(axis=1), -frames.min(axis=1)) >= DIGITAL_SILENCE


def _rechunk(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
  """Join and divide blocks into pieces of one size; the last holds what is left."""
  held: list[np.ndarray] = []
  count = 0
  for block in blocks:
    while count + len(block) >= size:
      head, block = np.split(block, [size - count])
      yield np.concatenate([*held, head])
      held, count = [], 0
    # A copy, so that a small rest does not keep a large block alive.
    held.append(block.copy())
    count += len(block)
  if count:
    yield np.concatenate(held)


def _judge(scenes: Iterator[np.ndarray], frame_samples: int) -> Iterator[tuple[_Stretch, bool]]:
  """Tell loud frames from quiet ones, scene by scene; beside each, whether it is the last."""

  def measure():
    for samples in scenes:
      yield samples, *measure_frames(samples, frame_samples)

  measured = measure()
  before, now = np.zeros(0, np.float32), next(measured, None)
  while now:
    after = next(measured, None)
    samples, levels, audible = now
    heard = levels[audible]
    around = [before, heard, after[1][after[2]]] if after else [before, heard]
    loud = audible & (levels > sound_threshold(np.concatenate(around)))
    yield _Stretch(samples, levels, audible, loud), after is None
    before, now = heard, after


def _cut(scenes: Iterator[tuple[_Stretch, bool]], frame_samples: int, longest: int) -> Iterator[Clip]:
  """Take clip after clip off what is held of the recording, and a scene more where that does not settle the next."""
  held, start, inside, short = None, 0, False, True
  for scene, final in scenes:
    held = held.then(scene) if held else scene
    short = short and len(held.samples) <= longest
    # Features are normalised: however quiet, what changes may be speech.
    if short and final and (held.audible.any() or (len(held.samples) and np.ptp(held.samples) > 0)):
      yield Clip(0, held.samples)
    settled = not short
    while settled:
      clip, used, inside, settled = _next_clip(held, final, inside, frame_samples, longest)
      if clip:
        # A copy, so that a short clip does not keep a long stretch alive.
        yield Clip(start + clip.start, held.samples[clip].copy())
      held, start = held.after(used, frame_samples), start + used * frame_samples


class _Step(NamedTuple):
  """What to do with the beginning of what is held."""

  clip: slice | None  # In samples.
  used: int  # Frames that are done with.
  inside: bool  # Whether what follows belongs to a piece between digital silences that is too long for one clip.
  settled: bool  # If not, more of the recording has to be seen.


def _next_clip(held: _Stretch, final: bool, inside: bool, frame_samples: int, longest: int) -> _Step:
  """Look for a piece between digital silences; take it whole if it is short enough, or else its first clip."""
  piece = _first_run(held.audible, final)
  if piece is None:
    inside = inside and len(held.audible) < PAUSE_FRAMES
    return _Step(None, 0 if inside else len(held.audible), inside, False)
  first, stop, ended = piece
  inside = inside and first < PAUSE_FRAMES
  if not inside:
    clip = _trimmed(held, first, stop, frame_samples)
    if clip.stop - clip.start <= longest:
      if not ended:
        return _Step(None, first, False, False)
      return _Step(clip if held.loud[first:stop].any() else None, stop, False, True)
  return _next_of_long_piece(held, piece, frame_samples, longest)


def _trimmed(held: _Stretch, first: int, stop: int, frame_samples: int) -> slice:
  """Find the samples of frames without the digital silence in the first and the last of them."""
  begin, last = first * frame_samples, (stop - 1) * frame_samples
  sounding = [np.flatnonzero(np.abs(held.samples[at : at + frame_samples]) >= DIGITAL_SILENCE) for at in (begin, last)]
  return slice(begin + int(sounding[0][0]), last + int(sounding[1][-1]) + 1)


def _next_of_long_piece(held: _Stretch, piece: tuple[int, int, bool], frame_samples: int, longest: int) -> _Step:
  """Take the sound up to the first pause, with margins; cut it at a quiet place if it is too long."""
  first, stop, ended = piece
  sound = _first_run(held.loud[:stop] if ended else held.loud, ended)
  if sound is None:
    # Enough stays to tell a pause that goes on, and to give the next sound its margin.
    used = stop if ended else max(0, len(held.loud) - PAUSE_FRAMES - MARGIN_FRAMES)
    return _Step(None, used, not ended, ended)
  begin, end, closed = sound
  limit = longest // frame_samples
  earliest = max(first, begin - MARGIN_FRAMES)
  if end - begin > limit:
    begin, end = earliest, earliest + _quiet_place(held, earliest, limit)
  elif closed:
    begin = max(earliest, end - limit)
    end = min(end + MARGIN_FRAMES, stop, begin + limit)
  else:
    return _Step(None, earliest, True, False)
  return _Step(slice(begin * frame_samples, end * frame_samples), end, True, True)


def _first_run(mask: np.ndarray, final: bool) -> tuple[int, int, bool] | None:
  """Find where mask [frames] first holds without a pause: from, up to, and whether it is sure to end there."""
  found = np.flatnonzero(mask)
  if not len(found):
    return None
  gaps = np.flatnonzero(np.diff(found) > PAUSE_FRAMES)
  last = int(found[gaps[0]] if len(gaps) else found[-1])
  return int(found[0]), last + 1, final or len(mask) - 1 - last >= PAUSE_FRAMES


def _quiet_place(held: _Stretch, begin: int, limit: int) -> int:
  """Choose where in the second half of `limit` frames to cut, in frames from `begin`."""
  half = limit // 2
  window = slice(begin + half, begin + limit)
  borders = np.flatnonzero(np.diff(~held.loud[window], prepend=False, append=False))
  if not len(borders):
    return half + int(held.levels[window].argmin())
  starts, ends = borders[::2], borders[1::2]
  longest = (ends - starts).argmax()
  return half + int(starts[longest] + ends[longest]) // 2
