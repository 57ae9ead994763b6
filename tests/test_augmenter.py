"""Tests how augmentations are applied to an utterance: in order, reproducibly, in any thread, in any order of work."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import recordings

from data.augmentation import masks, waveforms
from data.augmentation.augmenter import KINDS, Augmenter, make_augmenter
from data.augmentation.parameters import Augmentation
from data.augmentation.recordings import Recordings
from official_utils.misc.errors import UserError

RATE = 16000
EVERYTHING = [*KINDS, "codec[format=ogg]", "codec[format=mp3]", "noise[color=pink,p=0.5]"]


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Recordings:
  folder = tmp_path_factory.mktemp("others")
  for number in range(3):
    recordings.write(str(folder / f"{number}.wav"))
  return Recordings.in_folder(str(folder))


def speech(length: int = 4000, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(0, 0.1, length).astype(np.float32)


def augment(texts, epoch=0, index=0, samples=None, others=None, seed=1, num_epochs=1, **options) -> np.ndarray:
  chosen = make_augmenter(texts, seed, num_epochs)
  samples = speech() if samples is None else samples
  return chosen.augment_samples(samples, RATE, epoch, index, others, **options)


def test_every_class_has_its_name():
  classes = {
    each
    for module in (waveforms, masks)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Augmentation) and "kind" in vars(each)
  }
  assert set(KINDS.values()) == classes
  assert all(kind.kind == name for name, kind in KINDS.items())


def test_none_drops_those_before_it():
  assert make_augmenter([]) is None
  assert make_augmenter(["gain", "none"]) is None
  (only,) = make_augmenter(["gain", "none", "shift"]).augmentations
  assert only == waveforms.Shift()
  with pytest.raises(UserError, match="echo"):
    make_augmenter(["echo", "none"])


def test_the_order_is_that_of_the_list():
  louder_then_rounded = augment(["gain[db=-40]", "codec"])
  rounded_then_louder = augment(["codec", "gain[db=-40]"])
  assert not np.array_equal(louder_then_rounded, rounded_then_louder)
  np.testing.assert_array_equal(louder_then_rounded, augment(["codec"], samples=augment(["gain[db=-40]"])))


def test_draws_depend_on_seed_epoch_utterance_and_place():
  base = augment(["gain"])
  np.testing.assert_array_equal(base, augment(["gain"]))
  for other in (augment(["gain"], epoch=1), augment(["gain"], index=1), augment(["gain"], seed=2)):
    assert not np.array_equal(base, other)
  # What comes later changes nothing for what comes before.
  np.testing.assert_array_equal(augment(["gain", "noise[p=0]"]), base)
  assert not np.array_equal(augment(["noise[p=0]", "gain"]), base)


def test_threads_and_the_order_of_work_do_not_matter(others):
  chosen = make_augmenter(EVERYTHING, 3, 4)

  def work(place):
    epoch, index = place
    augmented = chosen.augment_samples(speech(2000 + 100 * index), RATE, epoch, index, others)
    return augmented, chosen.augment_features(np.ones([60, 20], np.float32), 100, epoch, index)

  places = [(epoch, index) for epoch in range(3) for index in range(6)]
  one_by_one = {place: work(place) for place in reversed(places)}
  with ThreadPoolExecutor(4) as pool:
    together = dict(zip(places, pool.map(work, places), strict=True))
  for place in places:
    for first, second in zip(one_by_one[place], together[place], strict=True):
      np.testing.assert_array_equal(first, second)


def test_strengths_move_from_the_first_epoch_to_the_last():
  def level(epoch, num_epochs):
    return 20 * np.log10(augment(["gain[db=0:20]"], epoch, num_epochs=num_epochs)[0] / speech()[0])

  assert [round(level(epoch, 5), 3) for epoch in range(5)] == [0, 5, 10, 15, 20]
  # An only epoch is the first one; what comes after the last stays as it.
  assert level(0, 1) == pytest.approx(0, abs=1e-4)
  assert level(9, 5) == pytest.approx(20, abs=1e-4)


def test_shares_are_kept_over_utterances():
  changed = [not np.array_equal(augment(["gain[p=0.3]"], index=index), speech()) for index in range(600)]
  assert np.mean(changed) == pytest.approx(0.3, abs=0.05)


def test_what_changes_the_length_can_be_left_out():
  texts = ["shift[ms=100]", "gain", "speed[rate=1.5]", "stretch[rate=1.5]", "noise"]
  kept = augment(texts, keep_length=True)
  assert len(augment(texts)) != len(kept) == len(speech())
  # The others draw what they drew.
  alone = make_augmenter(texts)
  gain = [augmentation for augmentation, _ in alone.draws(waveforms.OnSamples, RATE, 0, 0)][1]
  assert gain.kind == "gain"
  np.testing.assert_allclose(kept, augment(["shift[p=0]", "gain", "speed[p=0]", "stretch[p=0]", "noise"]), atol=0)


@pytest.mark.parametrize(
  ("texts", "longest"),
  [
    (["gain", "noise", "time_masks"], 4.0),
    (["shift[ms=-250..500]"], 4.5),
    (["shift[ms=-250..250:-750..0]"], 4.75),
    (["speed[rate=0.8..1.2]", "stretch[rate=1:0.5]"], 10.0),
    (["shift[ms=1000]", "speed[rate=0.5]"], 10.0),
    (["speed[rate=2]"], 4.0),
  ],
)
def test_the_most_that_a_clip_may_become(texts, longest):
  chosen = make_augmenter(texts, num_epochs=3)
  assert chosen.longest(4.0) == longest
  for index in range(20):
    length = len(chosen.augment_samples(speech(4 * RATE), RATE, index % 3, index))
    assert length <= longest * RATE + 2


def test_masks_hold_the_mean_of_their_bin():
  features = np.random.default_rng(0).normal(3, 1, [200, 16]).astype(np.float32)
  chosen = make_augmenter(["time_masks[width=100..400]", "frequency_masks[width=0.1..0.2]"])
  filled = chosen.augment_features(features.copy(), 100, 0, 0, is_centered=False)
  zeroed = chosen.augment_features(features.copy(), 100, 0, 0)
  masked = zeroed == 0
  assert 0 < masked.mean() < 1
  # Whole rows and whole columns.
  rows, columns = masked.all(axis=1), masked.all(axis=0)
  np.testing.assert_array_equal(masked, rows[:, np.newaxis] | columns)
  np.testing.assert_array_equal(filled[~masked], features[~masked])
  means = np.broadcast_to(features.mean(axis=0), features.shape)
  np.testing.assert_allclose(filled[masked], means[masked], rtol=1e-5)


def test_features_that_cannot_be_written_to_are_copied():
  features = np.ones([50, 8], np.float16)
  features.flags.writeable = False
  chosen = make_augmenter(["time_masks[width=100]"])
  masked = chosen.augment_features(features, 100, 0, 0)
  assert masked.dtype == np.float16
  assert features.all() and not masked.all()
  plain = make_augmenter(["gain"]).augment_features(features, 100, 0, 0)
  assert plain is features


def test_names_of_what_changes_samples():
  assert make_augmenter(["time_masks", "frequency_masks"]).on_samples == []
  assert make_augmenter(["time_masks", "noise", "speed"]).on_samples == ["noise", "speed"]
  assert Augmenter(()).on_samples == []
