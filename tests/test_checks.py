"""Tests the checks before training."""

import logging
import os

import hypothesis
import pytest
from hypothesis import strategies as st
from small_corpora import make_corpus, names_of, open_dataset

from data import manifest
from data.checks import Limits, check_limits
from data.vocabulary import steps_needed
from official_utils.misc.errors import UserError


def test_names_missing_audio_files(tmp_path):
  data_path = make_corpus(tmp_path, [(0.5, "a")] * 9)
  for number in range(2, 9):
    os.remove(tmp_path / f"{number}.wav")
  with pytest.raises(UserError, match=r"7 of 9 audio files do not exist: .*2\.wav \(line 4\).*6\.wav.* and 2 more;"):
    open_dataset(data_path)


def test_unknown_characters_are_reported_before_training(tmp_path):
  data_path = make_corpus(tmp_path, [(0.5, "ab"), (0.4, "café é"), (0.3, "a-b"), (0.6, "2 É")])
  with pytest.raises(UserError) as caught:
    open_dataset(data_path)
  message = str(caught.value)
  for part in ("3 of 4 transcripts", "'é' (3 times)", "'2' (1 times)", "'-' (1 times)", "stands for the blank"):
    assert part in message
  for line in (3, 4, 5):
    assert f"{data_path}:{line}" in message
  assert "--on_unknown=drop" in message


def test_unknown_characters_can_be_left_out_by_name(tmp_path, caplog):
  data_path = make_corpus(tmp_path, [(0.5, "ab"), (0.4, "café"), (0.3, "a-b")])
  with caplog.at_level(logging.WARNING):
    dataset = open_dataset(data_path, on_unknown="drop")
  assert names_of(dataset) == ["0.wav"]
  reasons = {os.path.basename(entry.path): reason for entry, reason in dataset.left_out}
  assert "line 3: characters 'é'" in reasons["1.wav"]
  assert "line 4: characters '-'" in reasons["2.wav"]
  assert "1.wav" in caplog.text
  assert "2 of 3 utterances" in caplog.text


def test_utterances_beyond_a_limit_are_left_out_by_name(tmp_path, caplog):
  # Characters are those of the labels: lower-cased, without the spaces around them.
  texts = ["a", "ab", " A b ", "abcd", "abcde"]
  data_path = make_corpus(tmp_path, [(0.5, text) for text in texts])
  with caplog.at_level(logging.WARNING):
    dataset = open_dataset(data_path, limits=Limits(min_text_length=2, max_text_length=4))
  assert names_of(dataset) == ["1.wav", "2.wav", "3.wav"]
  reasons = {os.path.basename(entry.path): reason for entry, reason in dataset.left_out}
  assert reasons == {
    "0.wav": "line 2: 1 characters, less than --min_text_length=2",
    "4.wav": "line 6: 5 characters, more than --max_text_length=4",
  }
  assert "2 of 5 utterances" in caplog.text
  seconds = [(5.0, "a"), (5.001, "a"), (0.2, "a")]
  dataset = open_dataset(make_corpus(tmp_path, seconds), limits=Limits(max_duration=5))
  assert names_of(dataset) == ["2.wav", "0.wav"]
  assert [reason for _, reason in dataset.left_out] == ["line 3: lasts 5.001 s, more than --max_duration=5"]


@hypothesis.given(
  utterances=st.lists(st.tuples(st.text("ab ", max_size=9), st.integers(0, 9))),
  shortest=st.one_of(st.none(), st.integers(0, 9)),
  longest=st.one_of(st.none(), st.integers(0, 9)),
  seconds=st.one_of(st.none(), st.integers(0, 9)),
)
def test_every_utterance_within_the_limits_is_kept_in_its_place(utterances, shortest, longest, seconds):
  rows = [
    (line, manifest.Entry(f"{line}.wav", manifest.duration_to_size(duration), text))
    for line, (text, duration) in enumerate(utterances)
  ]
  kept, left_out = check_limits(rows, Limits(shortest, longest, seconds))
  assert [line for line, _ in kept] == [
    line
    for line, (text, duration) in enumerate(utterances)
    if (shortest is None or shortest <= len(text))
    and (longest is None or len(text) <= longest)
    and (seconds is None or duration <= seconds)
  ]
  assert sorted([entry for _, entry in kept] + [entry for entry, _ in left_out]) == sorted(entry for _, entry in rows)


def test_utterances_that_cannot_be_aligned_are_left_out_with_the_numbers(tmp_path):
  # 0.3 s are 29 frames and 8 output steps.
  data_path = make_corpus(tmp_path, [(0.3, "abcdefgh"), (0.3, "abcdefghi"), (0.3, "aabbccd"), (0.3, "aabbc")])
  dataset = open_dataset(data_path)
  assert names_of(dataset) == ["0.wav", "3.wav"]
  (entry, reason), (_, doubled) = dataset.left_out
  assert os.path.basename(entry.path) == "1.wav"
  assert reason == "line 3: 9 labels, 0 of them doubled, need 9 output steps; the audio gives 8 (29 frames)"
  assert "7 labels, 3 of them doubled, need 10 output steps" in doubled


def test_a_size_that_looks_too_small_is_checked_in_the_file(tmp_path):
  data_path = make_corpus(tmp_path, [(0.3, "abcdefgh"), (0.2, "abcdefgh")], sizes=[2000, 1000])
  dataset = open_dataset(data_path)
  assert names_of(dataset) == ["0.wav"]
  assert "19 frames" in dataset.left_out[0][1]


def test_nothing_left_is_an_error(tmp_path):
  data_path = make_corpus(tmp_path, [(0.3, "abcdefghi")])
  with pytest.raises(UserError, match=r"all 1 utterances are left out.*0\.wav \(line 2: 9 labels"):
    open_dataset(data_path)
  with pytest.raises(UserError, match=r"\(line 2: 9 characters, more than --max_text_length=8\); .* limits"):
    open_dataset(data_path, limits=Limits(max_text_length=8))


@pytest.mark.parametrize(
  ("text", "steps"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("aaa", 5), ("aab", 4), ("a a", 3), ("hello  you", 12)]
)
def test_counts_the_steps_that_ctc_needs(text, steps):
  assert steps_needed(text) == steps
