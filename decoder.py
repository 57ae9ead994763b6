"""Turns a network's frames into text."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

import scoring

# The outputs that a decoder may ask of the network, by the names of its predictions.
LOG_PROBS = "log_probs"
CLASSES = "classes"


@dataclass(frozen=True)
class TimedWord:
  """A word of one utterance, and where it was heard.

  Attributes:
    text: the word; never empty, without white space.
    start: first frame of its first label.
    end: one past the last frame of its last label. A network trained with CTC may emit a label later than its sound and
      for a single frame, so these are the frames where the word was decided, only roughly those where it was spoken.
    confidence: geometric mean over the word's labels of each label's highest posterior in its run of frames, above 0
      and at most 1. It orders words by how sure the network was of its best path; it is not the probability that the
      word is right, and an overconfident network makes it too high.
  """

  text: str
  start: int
  end: int
  confidence: float


@dataclass(frozen=True)
class Hypothesis:
  """The result of decoding one utterance.

  Attributes:
    text: the transcript.
    log_prob: natural logarithm of the probability of the path through the frames that gave the text: the sum of its
      frames' scores. Other paths may give the same text, so the text is at least this probable. Decoded from logits,
      it is the sum of those logits: good for comparing paths of the same frames, but not a probability. None if the
      decoder only has classes.
    words: the words of the text, separated by white space; empty if the decoder only has classes.
    alternatives: the next best hypotheses, best first, if the decoder has them.
  """

  text: str
  log_prob: float | None = None
  words: tuple[TimedWord, ...] = ()
  alternatives: tuple["Hypothesis", ...] = ()


class Decoder(Protocol):
  """Turns the network's outputs into texts. Evaluation and transcribing are given a decoder and never make one.

  Attributes:
    labels: one label per class of the network, the blank's included.
    wants: the output that it decodes: LOG_PROBS or CLASSES.
  """

  labels: Sequence[str]
  wants: str

  def decode(self, outputs: np.ndarray, lengths: Sequence[int] | np.ndarray) -> list[Hypothesis]:
    """Decode a batch.

    Args:
      outputs: as `wants` says: log-probabilities [batch, time, classes], or integers [batch, time], the best class of
        each frame.
      lengths: integers [batch], frames of each utterance. Frames beyond them are padding and are never looked at.

    Returns:
      The best hypothesis of each utterance, with its alternatives.
    """


class GreedyDecoder:
  """Takes the best label of each frame, merges its runs and drops the blanks.

  Its twin in the graph of exports is `inference._greedy_text`; tests/test_exports.py compares them.

  Attributes:
    labels: one label per class of the network, the blank's included.
    blank_index: class of the blank.
    wants: LOG_PROBS, which gives scores and words with their times, or CLASSES, which gives only texts but takes far
      less out of the graph.
  """

  def __init__(self, labels: Sequence[str], blank_index: int | None = None, wants: str = LOG_PROBS):
    """Keep the alphabet.

    Args:
      labels: one label per class of the network, the blank's included: a string or a list of strings.
      blank_index: class of the CTC blank; None means the last.
      wants: LOG_PROBS or CLASSES.
    """
    if not labels:
      raise ValueError("the alphabet is empty: it needs at least the blank's label")
    self.labels: Sequence[str] = tuple(labels)
    self.blank_index = len(labels) - 1 if blank_index is None else blank_index
    self.wants = wants
    if not 0 <= self.blank_index < len(labels):
      raise ValueError(
        f"blank_index is {blank_index}, but the alphabet's {len(labels)} labels are 0 to {len(labels) - 1}"
      )
    if wants not in (LOG_PROBS, CLASSES):
      raise ValueError(f"wants is {wants!r}; give {LOG_PROBS!r} or {CLASSES!r}")

  def decode(self, outputs: np.ndarray, lengths: Sequence[int] | np.ndarray) -> list[Hypothesis]:
    """Decode a batch; see `Decoder.decode`.

    Logits give the same texts and words as log-probabilities. Of equal best values in a frame, the first wins.

    Raises:
      ValueError: if the shapes do not fit, a class is not in the alphabet, or a frame has no best label because of a
        NaN or an infinity.
    """
    outputs, lengths = np.asarray(outputs), np.asarray(lengths)
    if self.wants == CLASSES:
      return [Hypothesis(text) for text in self._texts(outputs, lengths)]
    self._check_shapes(outputs, lengths)
    ids, best = self._best_classes(outputs, lengths)
    return [
      Hypothesis(text, float(score[:length].sum()), self._words(classes[:length], score[:length], frames[:length]))
      for text, classes, score, frames, length in zip(
        self._texts(ids, lengths), ids, best, outputs, lengths, strict=True
      )
    ]

  def _check_shapes(self, log_probs: np.ndarray, lengths: np.ndarray) -> None:
    """Refuse a batch that does not fit the alphabet or its own lengths, quoting what it is and what was expected."""
    if log_probs.ndim != 3 or log_probs.shape[2] != len(self.labels):
      raise ValueError(
        f"log_probs has shape {list(log_probs.shape)}, but the alphabet has {len(self.labels)} labels: "
        f"expected [batch, time, {len(self.labels)}]"
      )
    batch, time, _ = log_probs.shape
    if lengths.shape != (batch,) or (batch and not np.issubdtype(lengths.dtype, np.integer)):
      raise ValueError(
        f"lengths is {lengths.dtype} of shape {list(lengths.shape)}, but log_probs has {batch} utterances: "
        f"expected integers of shape [{batch}]"
      )
    if np.any((lengths < 0) | (lengths > time)):
      raise ValueError(f"lengths are {lengths.min()} to {lengths.max()} frames, but log_probs has {time} frames")

  def _best_classes(self, log_probs: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the best class of each frame and its score in float64, both [batch, time]."""
    ids = log_probs.argmax(axis=2)
    best = np.take_along_axis(log_probs, ids[..., np.newaxis], axis=2)[..., 0].astype(np.float64)
    real = np.arange(log_probs.shape[1]) < lengths[:, np.newaxis]
    lost = np.argwhere(real & ~np.isfinite(best))
    if len(lost):
      utterance, frame = lost[0]
      raise ValueError(
        f"utterance {utterance} of the batch has no best label at frame {frame}: its highest score is "
        f"{best[utterance, frame]} ({len(lost)} such frames in the batch)"
      )
    return ids, best

  def _texts(self, classes: np.ndarray, lengths: np.ndarray) -> list[str]:
    """Merge the runs of each utterance's best classes, integers [batch, time], and drop the blanks."""
    real = np.arange(classes.shape[1]) < lengths[:, np.newaxis]
    present = classes[real]
    if present.size and not 0 <= present.min() <= present.max() < len(self.labels):
      raise ValueError(
        f"label ids are {present.min()} to {present.max()}, but the alphabet's {len(self.labels)} labels are 0 to "
        f"{len(self.labels) - 1}"
      )
    kept = real & (np.diff(classes, axis=1, prepend=-1) != 0) & (classes != self.blank_index)
    symbols = [self.labels[label] for label in classes[kept].tolist()]
    ends = np.cumsum(kept.sum(axis=1)).tolist()
    return ["".join(symbols[start:end]) for start, end in itertools.pairwise([0, *ends])]

  def _words(self, ids: np.ndarray, best: np.ndarray, log_probs: np.ndarray) -> tuple[TimedWord, ...]:
    """Find the words of one utterance with their frames.

    Args:
      ids: integers [time], the best class of each frame.
      best: float64 [time], its score.
      log_probs: float [time, classes].
    """
    posteriors = 1 / np.exp(log_probs - best[:, np.newaxis]).sum(axis=1)
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    ends = np.append(starts[1:], len(ids))
    kept = ids[starts] != self.blank_index
    peaks = np.log(np.maximum.reduceat(posteriors, starts)[kept]) if len(starts) else np.zeros(0)
    starts, ends = starts[kept], ends[kept]
    symbols = [self.labels[label] for label in ids[starts]]
    # The run of each character: a label may have several.
    runs = np.repeat(np.arange(len(symbols)), [len(symbol) for symbol in symbols])
    words = []
    for word in re.finditer(r"\S+", "".join(symbols)):
      first, last = runs[word.start()], runs[word.end() - 1]
      confidence = float(np.exp(peaks[first : last + 1].mean()))
      words.append(TimedWord(word.group(), int(starts[first]), int(ends[last]), confidence))
    return tuple(words)


class DeepSpeechDecoder:
  """The original's decoder of one utterance, and its error counts.

  Attributes:
    labels: one label per class of the network, the blank's included.
    blank_index: class of the blank.
    int_to_char: label of each class.
  """

  def __init__(self, labels: Sequence[str], blank_index: int | None = None):
    """Keep the alphabet; without `blank_index` the last label is the blank."""
    self._greedy = GreedyDecoder(labels, blank_index)
    self.labels = labels
    self.blank_index = self._greedy.blank_index
    self.int_to_char = dict(enumerate(labels))

  def convert_to_string(self, sequence: Sequence[int]) -> str:
    """Join the labels of class numbers; nothing is merged or dropped."""
    return "".join(self.int_to_char[index] for index in sequence)

  def wer(self, decode: str, target: str) -> int:
    """Count the word errors of `decode` against `target`: a number, not a rate."""
    return scoring.word_errors(target, decode).errors

  def cer(self, decode: str, target: str) -> int:
    """Count the character errors of `decode` against `target`: a number, not a rate."""
    return scoring.char_errors(target, decode).errors

  def decode(self, logits: np.ndarray) -> str:
    """Decode [time, classes] greedily: logits, probabilities, or their logarithms."""
    logits = np.asarray(logits)
    return self._greedy.decode(logits[np.newaxis], np.array(logits.shape[:1], np.int64))[0].text
