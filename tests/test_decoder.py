"""Decoding and error counts, held against the original's numbers and against slow, plain forms."""

import itertools
import math
import pathlib
import subprocess
import sys

import fixture_files
import nltk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decoder
from decoder import ErrorCounts, GreedyDecoder, Score

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALPHABET = " abcdefghijklmnopqrstuvwxyz'-"
ORIGINAL = fixture_files.load_json("decoder")
EVALUATED = fixture_files.load_json("evaluate")["given_probabilities"]

short_text = st.text(alphabet="ab c", max_size=12)


def naive_distance(reference, hypothesis):
  """The textbook's table, a row at a time."""
  row = list(range(len(hypothesis) + 1))
  for i, expected in enumerate(reference, start=1):
    above, row = row, [i]
    for j, found in enumerate(hypothesis, start=1):
      row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (expected != found)))
  return row[-1]


def collapse(path, labels, blank):
  """The rule of CTC in plain Python: merge runs, then drop blanks."""
  return "".join(labels[label] for label, _ in itertools.groupby(path) if label != blank)


def log_probs_of(ids, num_classes):
  """Frames [1, time, classes] in which the given ids win."""
  return np.log(np.where(np.arange(num_classes) == np.reshape(ids, (1, -1, 1)), 0.9, 0.1 / num_classes))


# Parity with the original.


@pytest.mark.parametrize("case", ORIGINAL["decode"], ids=lambda case: case["note"])
def test_greedy_text_equals_the_originals(case):
  logits = np.reshape(np.asarray(case["logits"], np.float32), (1, -1, len(case["labels"])))
  greedy = GreedyDecoder(case["labels"], case["blank_index"])
  assert greedy.decode(logits, [logits.shape[1]])[0].text == case["result"]


@pytest.mark.parametrize("case", ORIGINAL["metrics"])
def test_error_counts_equal_the_originals(case):
  greedy = GreedyDecoder(ALPHABET)
  assert greedy.wer(case["decode"], case["target"]) == case["wer"]
  assert greedy.cer(case["decode"], case["target"]) == case["cer"]


def test_evaluation_of_given_probabilities_equals_the_originals():
  stored = fixture_files.load_arrays("evaluate_probs")
  utterances = [stored[str(number)] for number in range(len(EVALUATED["decoded"]))]
  lengths = [len(frames) for frames in utterances]
  batch = np.full((len(utterances), max(lengths), len(ALPHABET)), np.nan, np.float32)
  for row, frames in zip(batch, utterances, strict=True):
    row[: len(frames)] = frames
  texts = [hypothesis.text for hypothesis in GreedyDecoder(ALPHABET).decode(batch, lengths)]
  assert texts == EVALUATED["decoded"]

  targets = [transcript for _, _, transcript in EVALUATED["entries"]]
  assert [decoder.word_errors(*pair).errors for pair in zip(targets, texts, strict=True)] == EVALUATED["word_errors"]
  assert [decoder.char_errors(*pair).errors for pair in zip(targets, texts, strict=True)] == EVALUATED["char_errors"]
  result = decoder.score(targets, texts)
  assert result.mean_wer == pytest.approx(EVALUATED["result"]["WER"], abs=1e-15)
  assert result.mean_cer == pytest.approx(EVALUATED["result"]["CER"], abs=1e-15)
  assert result.wer == sum(EVALUATED["word_errors"]) / sum(len(target.split()) for target in targets)
  assert result.cer == sum(EVALUATED["char_errors"]) / sum(map(len, targets))


# Greedy decoding.


@pytest.mark.parametrize("num_labels", [1, 2, 3])
@pytest.mark.parametrize("time", range(6))
def test_every_short_path_collapses_as_the_rule_says(num_labels, time):
  labels = "ab-"[-num_labels:]
  paths = list(itertools.product(range(num_labels), repeat=time))
  log_probs = np.concatenate([log_probs_of(path, num_labels) for path in paths])
  for blank in range(num_labels):
    greedy = GreedyDecoder(labels, blank)
    expected = [collapse(path, labels, blank) for path in paths]
    assert [hypothesis.text for hypothesis in greedy.decode(log_probs, [time] * len(paths))] == expected
    assert [greedy.decode_ids(path) for path in paths] == expected


@given(data=st.data(), num_labels=st.integers(1, 6))
def test_decode_equals_the_rule_on_each_utterance_alone(data, num_labels):
  lengths = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=4))
  time = max(lengths) + data.draw(st.integers(0, 3))
  shape = (len(lengths), time, num_labels)
  values = data.draw(st.lists(st.integers(-3, 3), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
  scores = np.reshape(np.asarray(values, np.float32), shape)
  labels = "abcdef"[:num_labels]
  heard = GreedyDecoder(labels).decode(scores, lengths)
  for hypothesis, frames, length in zip(heard, scores, lengths, strict=True):
    path = [list(frame).index(max(frame)) for frame in frames[:length]]
    assert hypothesis.text == collapse(path, labels, num_labels - 1)
    assert hypothesis.log_prob == sum(max(frame) for frame in frames[:length])


@pytest.mark.parametrize("garbage", [0.0, 1e30, np.nan, np.inf, -np.inf])
def test_padding_never_matters(garbage):
  generator = np.random.default_rng(3)
  lengths = np.array([0, 1, 9, 5], np.int32)
  log_probs = generator.normal(size=(4, 9, 29)).astype(np.float32)
  greedy = GreedyDecoder(ALPHABET)
  alone = [greedy.decode(log_probs[i : i + 1, :n], [n])[0] for i, n in enumerate(lengths)]
  padded = np.concatenate([log_probs, np.zeros((4, 80, 29), np.float32)], axis=1)
  padded[np.arange(89) >= lengths[:, np.newaxis]] = garbage
  assert greedy.decode(padded, lengths) == alone
  assert alone[0] == decoder.Hypothesis("", 0.0)


def test_log_prob_is_that_of_the_best_path():
  probabilities = np.array([[[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]]])
  (hypothesis,) = GreedyDecoder("a-").decode(np.log(probabilities), np.array([3]))
  assert hypothesis.text == "aa"
  assert np.exp(hypothesis.log_prob) == pytest.approx(0.6 * 0.7 * 0.5)


def test_logits_give_the_text_of_their_log_probabilities():
  logits = np.random.default_rng(5).normal(size=(3, 40, 29)).astype(np.float32)
  log_probs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
  greedy = GreedyDecoder(ALPHABET)
  texts = [[hypothesis.text for hypothesis in greedy.decode(scores, [40, 31, 7])] for scores in (logits, log_probs)]
  assert texts[0] == texts[1]


def test_zero_probabilities_are_no_fault():
  with np.errstate(divide="ignore"):
    log_probs = np.log(np.eye(3, dtype=np.float32)[np.newaxis])
  assert GreedyDecoder("ab-").decode(log_probs, [3]) == [decoder.Hypothesis("ab", 0.0)]


def test_an_empty_batch_gives_no_hypothesis():
  assert GreedyDecoder(ALPHABET).decode(np.zeros((0, 7, 29)), []) == []


def test_labels_may_be_longer_than_a_character_and_beyond_ascii():
  greedy = GreedyDecoder(["th", "é", "\ud800", "\U0001f600", "<blank>"])
  assert greedy.decode_ids([0, 0, 4, 0, 1, 2, 3]) == "ththé\ud800\U0001f600"


def test_a_large_alphabet_keeps_each_label():
  # 56000 labels reach into the surrogates, which are no characters of their own.
  labels = [chr(code) for code in range(0x100, 0x100 + 56000)] + ["-"]
  greedy = GreedyDecoder(labels)
  ids = np.arange(56000)
  assert greedy.decode_ids(ids) == "".join(labels[:-1])
  assert decoder.char_errors("".join(labels[:-1]), greedy.decode_ids(ids)) == ErrorCounts(hits=56000)


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_a_frame_without_a_best_label_is_an_error_that_names_it(value):
  log_probs = np.zeros((2, 5, 29), np.float32)
  log_probs[1, 3] = value
  with pytest.raises(ValueError, match="utterance 1 of the batch has no best label at frame 3"):
    GreedyDecoder(ALPHABET).decode(log_probs, [5, 4])
  assert GreedyDecoder(ALPHABET).decode(log_probs, [5, 3])[1].text == " "


def test_one_nan_among_numbers_is_an_error_too():
  log_probs = np.zeros((1, 2, 29))
  log_probs[0, 1, 17] = np.nan
  with pytest.raises(ValueError, match="frame 1: its highest score is nan"):
    GreedyDecoder(ALPHABET).decode(log_probs, [2])


@pytest.mark.parametrize(
  ("shape", "lengths", "words"),
  [
    ((2, 5, 28), [5, 5], ["[2, 5, 28]", "29 labels", "[batch, time, 29]"]),
    ((5, 29), [5], ["[5, 29]", "29 labels"]),
    ((2, 5, 29), [5], ["shape [1]", "2 utterances", "shape [2]"]),
    ((2, 5, 29), [[5], [5]], ["shape [2, 1]", "shape [2]"]),
    ((2, 5, 29), [5.0, 4.0], ["float64", "integers"]),
    ((2, 5, 29), [5, 6], ["5 to 6 frames", "has 5 frames"]),
    ((2, 5, 29), [-1, 5], ["-1 to 5 frames", "has 5 frames"]),
  ],
)
def test_shapes_that_do_not_fit_are_refused_quoting_both_sides(shape, lengths, words):
  with pytest.raises(ValueError) as raised:
    GreedyDecoder(ALPHABET).decode(np.zeros(shape), lengths)
  for word in words:
    assert word in str(raised.value)


@pytest.mark.parametrize("ids", [[0, -1], [29], [3, 400, 2]])
def test_ids_outside_the_alphabet_are_refused(ids):
  with pytest.raises(ValueError, match=rf"label ids are {min(ids)} to {max(ids)}, but the alphabet's 29 labels"):
    GreedyDecoder(ALPHABET).decode_ids(ids)


@pytest.mark.parametrize(
  ("labels", "blank", "words"), [("", None, "empty"), ("ab", 2, "is 2, .* 2 labels"), ("ab", -1, "is -1")]
)
def test_an_alphabet_without_its_blank_is_refused(labels, blank, words):
  with pytest.raises(ValueError, match=words):
    GreedyDecoder(labels, blank)


# Words with their frames.


def slow_words(scores, labels, blank):
  """The definition of a timed word in plain Python: runs, then characters, then words."""
  runs = []
  for frame, row in enumerate(scores):
    label = list(row).index(max(row))
    posterior = math.exp(row[label]) / sum(math.exp(value) for value in row)
    if runs and runs[-1][0] == label:
      _, start, _, peak = runs[-1]
      runs[-1] = (label, start, frame + 1, max(peak, posterior))
    else:
      runs.append((label, frame, frame + 1, posterior))
  letters = [(letter, run) for run in runs if run[0] != blank for letter in labels[run[0]]]
  words = []
  for is_space, group in itertools.groupby(letters, lambda letter: letter[0].isspace()):
    if not is_space:
      text, of_letters = zip(*group, strict=True)
      peaks = [run[3] for run, _ in itertools.groupby(of_letters)]
      confidence = math.prod(peaks) ** (1 / len(peaks))
      words.append(decoder.TimedWord("".join(text), of_letters[0][1], of_letters[-1][2], confidence))
  return words


@given(data=st.data())
def test_words_are_those_of_the_text_with_the_frames_of_their_labels(data):
  letters = st.text(alphabet="abé \t\n\x1c\x85\xa0\u2028\u3000\u200b\ufeff", min_size=1, max_size=3)
  labels = data.draw(st.lists(letters, min_size=1, max_size=5))
  blank = data.draw(st.integers(0, len(labels) - 1))
  frame = st.lists(st.integers(-4, 4), min_size=len(labels), max_size=len(labels))
  scores = np.reshape(np.asarray(data.draw(st.lists(frame, max_size=15)), np.float32), (-1, len(labels)))
  greedy = GreedyDecoder(labels, blank)
  words = greedy.decode_words(scores)
  (heard,) = greedy.decode(scores[np.newaxis], [len(scores)])
  assert [word.text for word in words] == heard.text.split()
  assert all(one.end <= other.start or len(max(labels, key=len)) > 1 for one, other in itertools.pairwise(words))
  for word, expected in zip(words, slow_words(scores.tolist(), labels, blank), strict=True):
    assert (word.text, word.start, word.end) == (expected.text, expected.start, expected.end)
    assert word.confidence == pytest.approx(expected.confidence, rel=1e-6)
    assert 0 < word.confidence <= 1
    assert 0 <= word.start < word.end <= len(scores)


def test_a_words_frames_and_confidence_by_hand():
  probabilities = [[0.1, 0.1, 0.8], [0.6, 0.1, 0.3], [0.9, 0.0, 0.1], [0.0, 0.2, 0.8], [0.5, 0.1, 0.4], [0.1, 0.7, 0.2]]
  with np.errstate(divide="ignore"):
    words = GreedyDecoder("a -").decode_words(np.log(probabilities))
  assert words == [decoder.TimedWord("aa", 1, 5, pytest.approx(math.sqrt(0.9 * 0.5)))]
  assert [type(value) for value in vars(words[0]).values()] == [str, int, int, float]


def test_logits_give_the_words_and_confidences_of_their_log_probabilities():
  logits = 3 * np.random.default_rng(6).normal(size=(200, 29)).astype(np.float32)
  greedy = GreedyDecoder(ALPHABET)
  shifted = greedy.decode_words(logits + 500)
  words = greedy.decode_words(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
  assert len(words) > 5
  assert [(word.text, word.start, word.end) for word in shifted] == [
    (word.text, word.start, word.end) for word in words
  ]
  assert [word.confidence for word in shifted] == pytest.approx([word.confidence for word in words], rel=1e-3)


def test_silence_and_no_frames_give_no_words():
  greedy = GreedyDecoder(ALPHABET)
  assert greedy.decode_words(np.zeros((0, 29))) == []
  assert greedy.decode_words(log_probs_of([28, 28, 0, 28], 29)[0]) == []


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_words_of_a_frame_without_a_best_label_are_refused_as_decode_refuses_them(value):
  log_probs = np.zeros((5, 29), np.float32)
  log_probs[3] = value
  with pytest.raises(ValueError, match="utterance 0 of the batch has no best label at frame 3: its highest score is"):
    GreedyDecoder(ALPHABET).decode_words(log_probs)


@pytest.mark.parametrize("shape", [(), (29,), (5, 28), (1, 5, 29)])
def test_words_of_another_shape_are_refused_as_decode_refuses_them(shape):
  with pytest.raises(ValueError, match=r"alphabet has 29 labels: expected \[batch, time, 29\]"):
    GreedyDecoder(ALPHABET).decode_words(np.zeros(shape))


# Error counts.


@given(reference=short_text, hypothesis=short_text)
def test_counts_agree_with_nltk_and_with_the_plain_table(reference, hypothesis):
  for count, split in ((decoder.char_errors, list), (decoder.word_errors, str.split)):
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
  assert decoder.count_errors(reference, hypothesis).errors == naive_distance(reference, hypothesis)


def test_what_hashes_alike_is_still_told_apart():
  assert decoder.count_errors([-1, -2], [-2, -2]).errors == 1
  assert decoder.count_errors(["a"], [97]).errors == 1


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
  assert decoder.word_errors(reference, hypothesis) == expected


def test_spaces_and_case_count_in_characters():
  assert decoder.char_errors("ab cd", "abcd") == ErrorCounts(hits=4, deletions=1)
  assert decoder.char_errors("Ab", "ab") == ErrorCounts(hits=1, substitutions=1)


def test_a_vocabulary_larger_than_unicode_keeps_each_word():
  words = [f"w{number}" for number in range(0x110000 + 10)]
  shifted = words[1:] + ["last"]
  assert decoder.count_errors(words[:3000], words[:3000]) == ErrorCounts(hits=3000)
  assert decoder.word_errors(" ".join(words[-3000:]), " ".join(shifted[-3000:])).errors == 2
  assert decoder.count_errors(words, words) == ErrorCounts(hits=len(words))


def test_counts_add_up():
  total = sum([ErrorCounts(1, 2, 3, 4), ErrorCounts(10, 20, 30, 40)], ErrorCounts())
  assert total == ErrorCounts(11, 22, 33, 44)
  assert (total.errors, total.reference_length, total.rate) == (99, 77, 99 / 77)


# Scores of a corpus.


def test_corpus_rates_come_from_counts_and_means_from_utterances():
  result = decoder.score(["a b c d", "e"], ["a b c d", "x y"])
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
  result = decoder.score(references, hypotheses)
  assert (result.wer, result.mean_wer) == (wer, mean_wer)


@given(st.lists(st.tuples(short_text, short_text), min_size=1, max_size=6), st.randoms())
def test_the_order_of_utterances_does_not_matter(pairs, random):
  shuffled = random.sample(pairs, len(pairs))
  one, other = (decoder.score(*zip(*some, strict=True)) for some in (pairs, shuffled))
  assert (one.words, one.chars) == (other.words, other.chars)
  assert (one.mean_wer, one.mean_cer) == pytest.approx((other.mean_wer, other.mean_cer))


def test_a_score_is_no_error_exactly_when_the_texts_agree():
  assert decoder.score(["a b"], ["a b"]) == Score(ErrorCounts(hits=2), ErrorCounts(hits=3), 0.0, 0.0)


def test_unequal_numbers_of_texts_are_refused_with_both_numbers():
  with pytest.raises(ValueError, match="3 references with 2 hypotheses"):
    decoder.score(["a", "b", "c"], ["a", "b"])


def test_a_corpus_of_no_utterances_has_no_score():
  with pytest.raises(ValueError, match="no utterance"):
    decoder.score([], [])


def test_decoding_and_scoring_need_no_tensorflow():
  program = "import sys, decoder; decoder.score(['a'], ['b']); print('tensorflow' in sys.modules)"
  shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
  assert shown.stdout == "False\n"
