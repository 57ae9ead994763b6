"""Holds normalisation by a training set and by the frames so far against plain sums."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

from data.feature_norms import LEAST_DEVIATION, PRIOR_FRAMES, RunningNorm, center_and_scale, standardize
from settings import FeatureStatistics


def frames_of(num_frames: int, num_bins: int = 3, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(0.5, 2, (num_frames, num_bins)).astype(np.float32)


def normalized(values: np.ndarray, *pieces: int, prior_frames: int = PRIOR_FRAMES) -> np.ndarray:
  """Normalise frames by those so far, cut into pieces at the given places."""
  values = values.copy()
  running = RunningNorm(values.shape[1], prior_frames)
  for piece in np.split(values, sorted(pieces)):
    running.normalize(piece)
  return values


def test_bins_get_mean_0_and_deviation_1():
  values = frames_of(1000)
  statistics = FeatureStatistics(tuple(values.mean(axis=0).tolist()), tuple(values.std(axis=0).tolist()))
  result = standardize(values, *center_and_scale(statistics))
  assert result.dtype == np.float32
  np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-5)
  np.testing.assert_allclose(result.std(axis=0), 1, atol=1e-5)


def test_an_offset_that_values_lack_is_not_subtracted():
  statistics = FeatureStatistics((-30.0,), (2.0,))
  np.testing.assert_array_equal(standardize(np.full((1, 1), 6, np.float32), *center_and_scale(statistics, -32)), [[2]])


def test_a_bin_without_sound_is_not_made_as_loud_as_the_others():
  _, scale = center_and_scale(FeatureStatistics((0.0, 0.0), (4.0, 1e-9)))
  np.testing.assert_allclose(scale, [1 / 4, 1 / (4 * LEAST_DEVIATION)])
  _, scale = center_and_scale(FeatureStatistics((0.0, 0.0), (0.0, 0.0)))
  np.testing.assert_array_equal(scale, [1, 1])


def test_frames_so_far_are_counted_with_those_that_came_before():
  values = frames_of(300)
  result = normalized(values, prior_frames=7)
  for end in (1, 2, 50, 300):
    # Seven frames whose mean is 0 and whose mean square is 1, and those so far.
    so_far = values[:end].astype(np.float64)
    mean = so_far.sum(axis=0) / (7 + end)
    deviation = np.sqrt((7 + np.square(so_far).sum(axis=0)) / (7 + end) - mean**2)
    np.testing.assert_allclose(result[end - 1], (values[end - 1] - mean) / deviation, rtol=1e-5, atol=1e-6)


@hypothesis.given(pieces=st.lists(st.integers(0, 400), max_size=5))
@hypothesis.settings(max_examples=20)
def test_pieces_of_any_length_give_the_same(pieces):
  values = frames_of(400)
  np.testing.assert_allclose(normalized(values, *pieces), normalized(values), rtol=1e-6, atol=1e-6)


def test_what_comes_later_changes_nothing():
  values = frames_of(400)
  changed = values.copy()
  changed[250:] = frames_of(150, seed=1) + 9
  np.testing.assert_array_equal(normalized(changed)[:250], normalized(values)[:250])


def test_in_the_long_run_an_utterance_gets_mean_0_and_deviation_1():
  result = normalized(frames_of(20_000) * 3 + 5)[10_000:]
  np.testing.assert_allclose(result.mean(axis=0), 0, atol=0.05)
  np.testing.assert_allclose(result.std(axis=0), 1, atol=0.05)


def test_silence_stays_what_it_is():
  np.testing.assert_array_equal(normalized(np.zeros((200, 3), np.float32)), np.zeros((200, 3)))
