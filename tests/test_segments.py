"""Tests cutting long recordings at silences."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import segments
from data.segments import Clip, cut_at_silences, measure_frames, sound_threshold

# A rate at which long recordings are quick to make: a frame has 8 samples.
RATE = 800
FRAME = 8
LONGEST = 2.0


def noise(seconds: float, level: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
  """Make float32 [samples] of noise that is at one level in dB throughout."""
  signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), round(seconds * rate))
  return signs * np.float32(10 ** (level / 20))


def silence(seconds: float) -> np.ndarray:
  return np.zeros(round(seconds * RATE), np.float32)


def cut(samples: np.ndarray, longest_seconds: float = LONGEST, block: int = 1000) -> list[Clip]:
  blocks = (samples[begin : begin + block] for begin in range(0, len(samples), block))
  return list(cut_at_silences(blocks, RATE, longest_seconds))


def seconds(clip: Clip) -> tuple[float, float]:
  return clip.start / RATE, (clip.start + len(clip.samples)) / RATE


@pytest.mark.parametrize(
  "samples",
  [noise(LONGEST, -20), noise(0.01, -20), np.concatenate([silence(0.7), noise(0.1, -20), silence(0.7)]), noise(1, -90)],
  ids=["longest", "shortest", "pauses", "faint"],
)
def test_a_short_recording_comes_out_whole(samples):
  (clip,) = cut(samples)
  assert clip.start == 0
  np.testing.assert_array_equal(clip.samples, samples)


def test_a_recording_longer_than_a_scene_comes_out_whole_if_a_clip_holds_it():
  samples = np.concatenate([noise(40, -20), silence(1), noise(40, -20)])
  (clip,) = cut(samples, 90)
  np.testing.assert_array_equal(clip.samples, samples)


@pytest.mark.parametrize("samples", [silence(0), silence(100), noise(100, -80)], ids=["none", "digital", "faint"])
def test_a_long_silence_gives_no_clip(samples):
  assert cut(samples) == []


@given(
  length=st.integers(0, 5 * RATE),
  level=st.sampled_from([0, 1e-9, 0.99 * segments.DIGITAL_SILENCE]),
  place=st.floats(0, 1, exclude_max=True),
)
def test_digital_silence_of_any_length_gives_no_clip_until_a_sample_sounds(length, level, place):
  samples = np.full(length, -level, np.float32)
  assert cut(samples) == []
  if length:
    samples[int(place * length)] = -0.5
    assert sum(np.abs(clip.samples).max() == 0.5 for clip in cut(samples)) == 1


def test_clips_joined_by_digital_silence_come_apart_to_the_sample():
  rng = np.random.default_rng(3)
  joined, begins, clips = [], [], []
  position = 0
  for number in range(60):
    # Room noise around and within: a pause of the clip's own is no border.
    speech = [noise(rng.uniform(0.05, 0.5), level, number) for level in (-55, -20, -60, -25, -58)]
    clip, pause = np.concatenate(speech), silence(rng.uniform(0.51, 1.5))
    joined += [clip, pause]
    begins.append(position)
    clips.append(clip)
    position += len(clip) + len(pause)
  found = cut(np.concatenate(joined), 2.6)
  assert [clip.start for clip in found] == begins
  for clip, original in zip(found, clips, strict=True):
    np.testing.assert_array_equal(clip.samples, original)


def test_a_pause_of_noise_leaves_a_margin():
  parts = [noise(1, -60, 1), noise(1.5, -20, 2), noise(0.5, -60, 3), noise(1.2, -30, 4), noise(1, -60, 5)]
  first, second = map(seconds, cut(np.concatenate(parts)))
  assert first == pytest.approx((0.9, 2.6), abs=0.02)
  assert second == pytest.approx((2.9, 4.3), abs=0.02)


def test_a_pause_in_loud_noise_does_not_hide_speech():
  found = cut(np.concatenate([noise(30, -20, 1), noise(30, -10, 2), noise(30, -20, 3)]))
  assert sum(len(clip.samples) for clip in found) == 90 * RATE


def test_faint_speech_beside_digital_silence_is_kept():
  samples = np.concatenate([silence(3), noise(1, -65), silence(3)])
  (clip,) = cut(samples)
  assert seconds(clip) == (3, 4)


def test_a_click_is_a_clip_of_its_own():
  samples = np.concatenate([noise(3, -60, 1), noise(0.08, -10, 2), noise(3, -60, 3)])
  (clip,) = cut(samples)
  assert seconds(clip) == pytest.approx((2.9, 3.18), abs=0.015)


def test_what_is_too_long_is_cut_at_the_longest_quiet_place_of_the_second_half():
  quiet = [(0.5, 0.3), (1.2, 0.1), (1.5, 0.2), (1.85, 0.05)]
  samples = noise(3, -20)
  for begin, length in quiet:
    samples[round(begin * RATE) : round((begin + length) * RATE)] *= 0.01
  first, second = map(seconds, cut(samples))
  assert first == pytest.approx((0, 1.6), abs=0.011)
  assert second == (first[1], 3)


def test_without_a_quiet_place_the_quietest_frame_is_cut():
  samples = noise(3, -20)
  for begin, gain in ((0.4, 0.3), (1.4, 0.5), (1.7, 0.6)):
    samples[round(begin * RATE) :][:FRAME] = 0.1 * gain
  first, second = map(seconds, cut(samples))
  assert first == (0, 1.4)
  assert second == (1.4, 3)


def test_the_threshold_lies_above_the_floor():
  speech = np.concatenate([np.full(30, -60.0), np.full(70, -20.0)])
  assert sound_threshold(speech) == -52
  assert sound_threshold(np.full(100, -30.0)) == -50
  assert sound_threshold(speech - 60) == segments.LOWEST_THRESHOLD
  assert sound_threshold(np.zeros(0)) == segments.LOWEST_THRESHOLD


def test_levels_of_frames():
  samples = np.concatenate([np.full(FRAME, 0.1), np.zeros(FRAME), np.full(FRAME // 2, 1.0)]).astype(np.float32)
  levels, audible = measure_frames(samples, FRAME)
  np.testing.assert_allclose(levels, [-20, segments.LOWEST_LEVEL, -3.0103], atol=1e-4)
  assert audible.tolist() == [True, False, True]


def loud_frames(samples: np.ndarray) -> np.ndarray:
  """Find the frames above the threshold from the whole recording at once: indices."""
  levels, audible = measure_frames(samples, FRAME)
  scene = round(segments.SCENE_SECONDS / segments.FRAME_SECONDS)
  loud = np.zeros(len(levels), bool)
  for begin in range(0, len(levels), scene):
    around = slice(max(0, begin - scene), begin + 2 * scene)
    here = slice(begin, begin + scene)
    loud[here] = audible[here] & (levels[here] > sound_threshold(levels[around][audible[around]]))
  return np.flatnonzero(loud)


@st.composite
def recordings(draw):
  """Draw a recording of up to three minutes from sounds, noises and silences of lengths that do not fit frames."""
  levels = st.sampled_from([-np.inf, -np.inf, -85, -66, -60, -55, -35, -20, -8])
  parts = draw(st.lists(st.tuples(levels, st.integers(1, 3 * RATE)), max_size=12))
  samples = [noise(length / RATE, level, number) for number, (level, length) in enumerate(parts)]
  repeated = draw(st.sampled_from([1, 1, 2, 5]))
  return np.concatenate([*samples * repeated, np.zeros(0, np.float32)])


@settings(max_examples=150, deadline=None)
@given(samples=recordings(), block=st.integers(1, 100000), longest=st.sampled_from([1.0, LONGEST, 7.77, 70.0]))
def test_no_sound_is_lost_and_blocks_make_no_difference(samples, block, longest):
  found = cut(samples, longest, max(block, len(samples) // 500))
  covered = np.zeros(len(samples), int)
  end = 0
  for clip in found:
    assert clip.start >= end
    end = clip.start + len(clip.samples)
    assert 0 < len(clip.samples) <= longest * RATE
    np.testing.assert_array_equal(clip.samples, samples[clip.start : end])
    covered[clip.start : end] += 1
  audible = np.abs(samples) >= segments.DIGITAL_SILENCE
  for frame in loud_frames(samples):
    place = slice(frame * FRAME, (frame + 1) * FRAME)
    assert (covered[place][audible[place]] == 1).all()
  whole = cut(samples, longest, len(samples) + 1)
  assert [(clip.start, len(clip.samples)) for clip in whole] == [(clip.start, len(clip.samples)) for clip in found]


@settings(max_examples=40, deadline=None)
@given(
  pauses=st.lists(st.integers(RATE // 2, 3 * RATE), min_size=3, max_size=30),
  sounds=st.lists(st.integers(200, 1500), min_size=30, max_size=30),
  level=st.sampled_from([-np.inf, -90, -60]),
)
def test_every_pause_of_half_a_second_cuts(pauses, sounds, level):
  parts, spans, position = [], [], 0
  for number, (pause, sound) in enumerate(zip(pauses, sounds, strict=False)):
    parts += [noise(sound / RATE, -20, number), noise(pause / RATE, level, number)]
    spans.append((position, position + sound))
    position += sound + pause
  found = cut(np.concatenate(parts), 1.9)
  assert len(found) == len(spans)
  for clip, (begin, end) in zip(found, spans, strict=True):
    assert begin - 0.11 * RATE <= clip.start <= begin
    assert end <= clip.start + len(clip.samples) <= end + 0.11 * RATE


@pytest.mark.parametrize("pause_level", [-np.inf, -60])
def test_memory_does_not_grow_with_the_recording(pause_level):
  rate, minutes = 16000, 20
  minute = np.concatenate([noise(15, -20, rate=rate), noise(45, pause_level, rate=rate)])

  def blocks():
    for number in range(minutes):
      yield from np.split(minute * np.float32(1 + 0.01 * number), 6)

  tracemalloc.start()
  count = sum(1 for _ in cut_at_silences(blocks(), rate))
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert count == minutes
  assert peak < 5 * 60 * rate * 4


def test_a_short_recording_with_any_sound_comes_out_whole_however_quiet():
  samples = 1e-7 * np.sin(np.arange(16000, dtype=np.float32))
  (clip,) = segments.cut_at_silences([samples], 16000)
  np.testing.assert_array_equal(clip.samples, samples)
  assert not list(segments.cut_at_silences([0 * samples], 16000))
