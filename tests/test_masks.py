"""Tests the masks of SpecAugment: how many, how wide and where."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from data.augmentation.augmenter import KINDS
from data.augmentation.masks import EVERYTHING
from data.augmentation.parameters import Draw, parse

FRAME_RATE = 100


def masks(text: str, num_frames: int = 500, num_bins: int = 80, seed: int = 0):
  augmentation = parse(text, KINDS)
  return augmentation.masks(num_frames, num_bins, Draw(augmentation, (seed,), 0.0, FRAME_RATE))


def test_time_masks_cover_all_bins_and_frequency_masks_all_frames():
  assert all(bins == EVERYTHING for _, bins in masks("time_masks"))
  assert all(frames == EVERYTHING for frames, _ in masks("frequency_masks"))
  assert len(masks("time_masks[count=3]")) == len(masks("frequency_masks[count=3]")) == 3
  assert masks("time_masks[count=0]") == []


def test_widths_and_places_are_even():
  drawn = [masks("time_masks[count=1,width=0..100,share=1]", 50, seed=seed)[0][0] for seed in range(3000)]
  widths = np.array([mask.stop - mask.start for mask in drawn])
  np.testing.assert_allclose(np.bincount(widths) / len(widths), 1 / 11, atol=0.02)
  # Every place is as likely for the masks of one width.
  starts = np.array([mask.start for mask in drawn])[widths == 5]
  assert (starts.min(), starts.max()) == (0, 45)
  assert starts.mean() == pytest.approx(22.5, abs=3)


def test_a_mask_covers_at_most_its_share():
  widths = [
    mask.stop - mask.start
    for seed in range(300)
    for mask, _ in masks("time_masks[count=4,width=0..2000,share=0.1]", 205, seed=seed)
  ]
  assert (min(widths), max(widths)) == (0, 20)
  # The range ends there; it is not that wider ones are cut.
  assert np.mean(np.array(widths) == 20) == pytest.approx(1 / 21, abs=0.03)


def test_masks_may_grow_with_the_utterance():
  adaptive = "time_masks[count=20,per_second=4,width=60000,share=0.04]"
  for num_frames, count, width in ((20, 0, 0), (100, 4, 4), (200, 8, 8), (1000, 20, 40)):
    drawn = masks(adaptive, num_frames)
    assert [mask.stop - mask.start for mask, _ in drawn] == [width] * count


def test_widths_of_frequency_masks_are_shares_of_the_bins():
  widths = [bins.stop - bins.start for seed in range(400) for _, bins in masks("frequency_masks", seed=seed)]
  assert (min(widths), max(widths)) == (0, 16)


@hypothesis.given(
  text=st.sampled_from(["time_masks[count=5,share=1]", "frequency_masks[count=5,width=0..1]"]),
  num_frames=st.integers(1, 300),
  num_bins=st.integers(1, 200),
  seed=st.integers(0, 999),
)
def test_masks_lie_within_the_features(text, num_frames, num_bins, seed):
  for frames, bins in masks(text, num_frames, num_bins, seed):
    for mask, length in ((frames, num_frames), (bins, num_bins)):
      assert mask == EVERYTHING or 0 <= mask.start <= mask.stop <= length
