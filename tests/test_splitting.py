"""Tests telling speakers and drawing parts."""

import hypothesis
import pytest
from hypothesis import strategies as st

from data import splitting


@pytest.mark.parametrize(
  ("path", "speaker"),
  [
    ("/d/LibriSpeech/train-clean-100/19/198/19-198-0001.flac", "19"),
    ("/d/mrt/wav/F1_b10_w2.wav", "F1"),
    ("/d/F1_b10_w2_orig.wav", "F1"),
    ("/d/an4/wav/an4_clstk/fash/an251-fash-b.wav", "fash"),
    ("/d/Aaron-20080318-kdl/wav/a0001.wav", "Aaron"),
    ("/d/common_voice_en_1.mp3", None),
    ("00001.wav", None),
  ],
)
def test_tells_the_speaker_from_the_path(path, speaker):
  assert splitting.speaker_of(path) == speaker


GROUPS = st.dictionaries(st.text("abc", max_size=4), st.lists(st.integers(), min_size=1, max_size=4), max_size=12)


@hypothesis.given(groups=GROUPS, dev=st.floats(0, 0.5), test=st.floats(0, 0.49), seed=st.integers(0, 99))
def test_parts_consist_of_whole_groups_whatever_their_order(groups, dev, test, seed):
  shares = {"dev": dev, "test": test}
  parts = splitting.draw_parts(groups, shares, seed)
  assert sorted(parts) == ["dev", "test", "train"]
  numbered = {name: [(name, index) for index in range(len(group))] for name, group in groups.items()}
  drawn = splitting.draw_parts(dict(reversed(numbered.items())), shares, seed)
  assert sorted(sum(drawn.values(), [])) == sorted(sum(numbered.values(), []))
  assert sum(len({name for name, _ in part}) for part in drawn.values()) == len(groups)
  assert {part: len(utterances) for part, utterances in parts.items()} == {
    part: len(utterances) for part, utterances in drawn.items()
  }


def test_a_share_above_nothing_gets_an_utterance_and_no_share_gets_none():
  groups = {str(number): [number] for number in range(5)}
  parts = splitting.draw_parts(groups, {"dev": 0.001, "test": 0.0}, seed=1)
  assert {part: len(utterances) for part, utterances in parts.items()} == {"train": 4, "dev": 1, "test": 0}
