"""Decoding held against the original's numbers and against slow, plain forms."""

import itertools
import math
import pathlib
import subprocess
import sys

import fixture_files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import decoder
import scoring
from decoder import CLASSES, DeepSpeechDecoder, GreedyDecoder

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALPHABET = " abcdefghijklmnopqrstuvwxyz'-"
ORIGINAL = fixture_files.load_json("decoder")
EVALUATED = fixture_files.load_json("evaluate")["given_probabilities"]


def collapse(path, labels, blank):
  """The rule of CTC in plain Python: merge runs, then drop blanks."""
  return "".join(labels[label] for label, _ in itertools.groupby(path) if label != blank)


def log_probs_of(ids, num_classes):
  """Frames [1, time, classes] in which the given ids win."""
  return np.log(np.where(np.arange(num_classes) == np.reshape(ids, (1, -1, 1)), 0.9, 0.1 / num_classes))


def heard_in_classes(labels, ids, blank=None):
  """Decode the best classes of one utterance."""
  (hypothesis,) = GreedyDecoder(labels, blank, CLASSES).decode(np.reshape(ids, (1, -1)).astype(int), [len(ids)])
  assert hypothesis == decoder.Hypothesis(hypothesis.text)
  return hypothesis.text


def words_in(greedy, scores):
  """Decode [time, classes] into words."""
  batch = np.asarray(scores)[np.newaxis]
  (hypothesis,) = greedy.decode(batch, np.array(batch.shape[1:2], np.int64))
  return list(hypothesis.words)


# Parity with the original.


@pytest.mark.parametrize("case", ORIGINAL["decode"], ids=lambda case: case["note"])
def test_greedy_text_equals_the_originals(case):
  logits = np.reshape(np.asarray(case["logits"], np.float32), (1, -1, len(case["labels"])))
  greedy = GreedyDecoder(case["labels"], case["blank_index"])
  assert greedy.decode(logits, [logits.shape[1]])[0].text == case["result"]
  assert DeepSpeechDecoder(case["labels"], case["blank_index"]).decode(logits[0]) == case["result"]


@pytest.mark.parametrize("case", ORIGINAL["metrics"])
def test_error_counts_equal_the_originals(case):
  greedy = DeepSpeechDecoder(ALPHABET)
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
  assert [scoring.word_errors(*pair).errors for pair in zip(targets, texts, strict=True)] == EVALUATED["word_errors"]
  assert [scoring.char_errors(*pair).errors for pair in zip(targets, texts, strict=True)] == EVALUATED["char_errors"]
  result = scoring.score(targets, texts)
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
    assert [heard_in_classes(labels, path, blank) for path in paths] == expected


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
  (hypothesis,) = GreedyDecoder("ab-").decode(log_probs, [3])
  assert (hypothesis.text, hypothesis.log_prob) == ("ab", 0.0)


def test_an_empty_batch_gives_no_hypothesis():
  assert GreedyDecoder(ALPHABET).decode(np.zeros((0, 7, 29)), []) == []


def test_labels_may_be_longer_than_a_character_and_beyond_ascii():
  labels = ["th", "é", "\ud800", "\U0001f600", "<blank>"]
  assert heard_in_classes(labels, [0, 0, 4, 0, 1, 2, 3]) == "ththé\ud800\U0001f600"


def test_a_large_alphabet_keeps_each_label():
  # 56000 labels reach into the surrogates, which are no characters of their own.
  labels = [chr(code) for code in range(0x100, 0x100 + 56000)] + ["-"]
  text = heard_in_classes(labels, np.arange(56000))
  assert text == "".join(labels[:-1])
  assert scoring.char_errors("".join(labels[:-1]), text) == scoring.ErrorCounts(hits=56000)


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
    heard_in_classes(ALPHABET, ids)


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
  words = words_in(greedy, scores)
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
    words = words_in(GreedyDecoder("a -"), np.log(probabilities))
  assert words == [decoder.TimedWord("aa", 1, 5, pytest.approx(math.sqrt(0.9 * 0.5)))]
  assert [type(value) for value in vars(words[0]).values()] == [str, int, int, float]


def test_logits_give_the_words_and_confidences_of_their_log_probabilities():
  logits = 3 * np.random.default_rng(6).normal(size=(200, 29)).astype(np.float32)
  greedy = GreedyDecoder(ALPHABET)
  shifted = words_in(greedy, logits + 500)
  words = words_in(greedy, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
  assert len(words) > 5
  assert [(word.text, word.start, word.end) for word in shifted] == [
    (word.text, word.start, word.end) for word in words
  ]
  assert [word.confidence for word in shifted] == pytest.approx([word.confidence for word in words], rel=1e-3)


def test_silence_and_no_frames_give_no_words():
  greedy = GreedyDecoder(ALPHABET)
  assert words_in(greedy, np.zeros((0, 29))) == []
  assert words_in(greedy, log_probs_of([28, 28, 0, 28], 29)[0]) == []


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_words_of_a_frame_without_a_best_label_are_refused_as_decode_refuses_them(value):
  log_probs = np.zeros((5, 29), np.float32)
  log_probs[3] = value
  with pytest.raises(ValueError, match="utterance 0 of the batch has no best label at frame 3: its highest score is"):
    words_in(GreedyDecoder(ALPHABET), log_probs)


@pytest.mark.parametrize("shape", [(), (29,), (5, 28), (1, 5, 29)])
def test_words_of_another_shape_are_refused_as_decode_refuses_them(shape):
  with pytest.raises(ValueError, match=r"alphabet has 29 labels: expected \[batch, time, 29\]"):
    words_in(GreedyDecoder(ALPHABET), np.zeros(shape))


def test_decoding_and_scoring_need_no_tensorflow():
  program = "import sys, decoder, scoring; scoring.score(['a'], ['b']); print('tensorflow' in sys.modules)"
  shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
  assert shown.stdout == "False\n"


def test_the_originals_decoder_joins_labels_as_they_stand():
  deep_speech_decoder = DeepSpeechDecoder(ALPHABET)
  assert deep_speech_decoder.blank_index == 28
  assert deep_speech_decoder.convert_to_string([8, 9, 9, 28]) == "hii-"


def test_what_a_decoder_wants_is_one_of_two():
  with pytest.raises(ValueError, match="wants is 'logits'"):
    GreedyDecoder(ALPHABET, wants="logits")
