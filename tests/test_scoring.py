"""Error counts held against slow, plain forms, and the scores of corpora."""

import nltk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scoring
from scoring import ErrorCounts

short_text = st.text(alphabet="ab c", max_size=12)


def naive_distance(reference, hypothesis):
  """The textbook's table, a row at a time."""
  row = list(range(len(hypothesis) + 1))
  for i, expected in enumerate(reference, start=1):
    above, row = row, [i]
    for j, found in enumerate(hypothesis, start=1):
      row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (expected != found)))
  return row[-1]


@given(reference=short_text, hypothesis=short_text)
def test_counts_agree_with_nltk_and_with_the_plain_table(reference, hypothesis):
  for count, split in ((scoring.char_errors, list), (scoring.word_errors, str.split)):
    counts = count(reference, hypothesis)
    assert counts.errors == nltk.edit_distance(split(reference), split(hypothesis))
    assert counts.errors == naive_distance(split(reference), split(hypothesis))
    assert counts.reference_length == len(split(reference))
    assert counts.hits + counts.substitutions + counts.insertions == len(split(hypothesis))
    assert min(counts.hits, counts.substitutions, counts.insertions, counts.deletions) >= 0


@settings(max_examples=30)
@given(st.lists(st.integers(-3, 3), max_size=150), st.lists(st.integers(-3, 3), max_size=150))
def test_long_sequences_of_numbers_agree_with_the_plain_table(reference, hypothesis):
  # -1 and -2 have the same hash.
  assert scoring.count_errors(reference, hypothesis).errors == naive_distance(reference, hypothesis)


def test_what_hashes_alike_is_still_told_apart():
  assert scoring.count_errors([-1, -2], [-2, -2]).errors == 1
  assert scoring.count_errors(["a"], [97]).errors == 1


@pytest.mark.parametrize(
  ("reference", "hypothesis", "expected"),
  [
    ("a b c", "a b c", ErrorCounts(hits=3)),
    ("a b c", "a x c", ErrorCounts(hits=2, substitutions=1)),
    ("a b c", "a c", ErrorCounts(hits=2, deletions=1)),
    ("a c", "a b c", ErrorCounts(hits=2, insertions=1)),
    ("a b", "", ErrorCounts(deletions=2)),
    ("", "a b", ErrorCounts(insertions=2)),
    ("", "", ErrorCounts()),
    (" a\tb\n", "a  b", ErrorCounts(hits=2)),
  ],
)
def test_kinds_of_word_errors(reference, hypothesis, expected):
  assert scoring.word_errors(reference, hypothesis) == expected


def test_spaces_and_case_count_in_characters():
  assert scoring.char_errors("ab cd", "abcd") == ErrorCounts(hits=4, deletions=1)
  assert scoring.char_errors("Ab", "ab") == ErrorCounts(hits=1, substitutions=1)


def test_a_vocabulary_larger_than_unicode_keeps_each_word():
  words = [f"w{number}" for number in range(0x110000 + 10)]
  shifted = words[1:] + ["last"]
  assert scoring.count_errors(words[:3000], words[:3000]) == ErrorCounts(hits=3000)
  assert scoring.word_errors(" ".join(words[-3000:]), " ".join(shifted[-3000:])).errors == 2
  assert scoring.count_errors(words, words) == ErrorCounts(hits=len(words))


def test_counts_add_up():
  total = sum([ErrorCounts(1, 2, 3, 4), ErrorCounts(10, 20, 30, 40)], ErrorCounts())
  assert total == ErrorCounts(11, 22, 33, 44)
  assert (total.errors, total.reference_length, total.rate) == (99, 77, 99 / 77)


# Scores of a corpus.


def test_corpus_rates_come_from_counts_and_means_from_utterances():
  result = scoring.score(["a b c d", "e"], ["a b c d", "x y"])
  assert (result.wer, result.mean_wer) == (2 / 5, 1.0)
  assert (result.cer, result.mean_cer) == (3 / 8, 1.5)
  assert result.words == ErrorCounts(hits=4, substitutions=1, insertions=1)


@pytest.mark.parametrize(
  ("references", "hypotheses", "wer", "mean_wer"),
  [
    ([""], [""], 0.0, 0.0),
    (["", ""], ["", ""], 0.0, 0.0),
    ([""], ["a b"], 2.0, 2.0),
    (["  "], ["a"], 1.0, 1.0),
    (["a b", ""], ["a b", "c"], 1 / 2, 1 / 2),
    (["a b", ""], ["a b", ""], 0.0, 0.0),
    (["a b", ""], ["", "c c c c"], 6 / 2, 5 / 2),
  ],
)
def test_empty_references_add_their_insertions(references, hypotheses, wer, mean_wer):
  result = scoring.score(references, hypotheses)
  assert (result.wer, result.mean_wer) == (wer, mean_wer)


@given(st.lists(st.tuples(short_text, short_text), min_size=1, max_size=6), st.randoms())
def test_the_order_of_utterances_does_not_matter(pairs, random):
  shuffled = random.sample(pairs, len(pairs))
  one, other = (scoring.score(*zip(*some, strict=True)) for some in (pairs, shuffled))
  assert (one.words, one.chars) == (other.words, other.chars)
  assert (one.mean_wer, one.mean_cer) == pytest.approx((other.mean_wer, other.mean_cer))


def test_a_score_is_no_error_exactly_when_the_texts_agree():
  result = scoring.score(["a b"], ["a b"])
  assert (result.words, result.chars) == (ErrorCounts(hits=2), ErrorCounts(hits=3))
  assert (result.mean_wer, result.mean_cer) == (0.0, 0.0)


def test_unequal_numbers_of_texts_are_refused_with_both_numbers():
  with pytest.raises(ValueError, match="3 references with 2 hypotheses"):
    scoring.score(["a", "b", "c"], ["a", "b"])


def test_a_corpus_of_no_utterances_has_no_score():
  with pytest.raises(ValueError, match="no utterance"):
    scoring.score([], [])


@given(reference=short_text, hypothesis=short_text)
def test_an_alignment_holds_both_texts_and_the_errors_that_are_counted(reference, hypothesis):
  (utterance,) = scoring.score([reference], [hypothesis]).utterances
  assert (utterance.reference, utterance.hypothesis) == (reference, hypothesis)
  said, heard = (
    ([word for word in side if word is not None] for side in zip(*utterance.alignment, strict=True))
    if (utterance.alignment)
    else ([], [])
  )
  assert said == reference.split()
  assert heard == hypothesis.split()
  counts = utterance.words
  assert sum(one == other for one, other in utterance.alignment) == counts.hits
  assert sum(one is None for one, _ in utterance.alignment) == counts.insertions
  assert sum(other is None for _, other in utterance.alignment) == counts.deletions
  assert len(utterance.alignment) - counts.hits == counts.errors


def test_an_alignment_by_hand():
  (utterance,) = scoring.score(["please select the word sit"], ["now please the word hit"]).utterances
  assert utterance.alignment == [
    (None, "now"),
    ("please", "please"),
    ("select", None),
    ("the", "the"),
    ("word", "word"),
    ("sit", "hit"),
  ]


def test_a_score_keeps_its_utterances():
  result = scoring.score(["a b", "c"], ["a", "c"])
  assert result.texts == ["a", "c"]
  assert [each.words.errors for each in result.utterances] == [1, 0]
  assert sum((each.chars for each in result.utterances), ErrorCounts()) == result.chars
