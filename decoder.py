"""Turns a network's frames into text, and counts how far text is from its reference."""

import itertools
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True)
class Hypothesis:
  """What a decoder heard in one utterance.

  Attributes:
    text: the transcript.
    log_prob: natural logarithm of the probability of the path through the frames that gave the text: the sum of its
      frames' scores. Other paths may give the same text, so the text is at least this probable. Decoded from logits,
      it is the sum of those logits: fit to compare paths of the same frames, but no probability.
  """

  text: str
  log_prob: float


@dataclass(frozen=True)
class TimedWord:
  """A word of one utterance, and where it was heard.

  Attributes:
    text: the word; never empty, without white space.
    start: first frame of its first label.
    end: one past the last frame of its last label. A network trained with CTC may give a label later than its sound and
      for a frame only, so these are the frames where the word was decided, at most near those where it was spoken.
    confidence: geometric mean over the word's labels of the highest posterior that each has in its run of frames, more
      than 0 and at most 1. It orders words by how sure the network was of its best path; it is not the probability that
      the word is right, and a network that is too sure of itself makes it too high.
  """

  text: str
  start: int
  end: int
  confidence: float


@dataclass(frozen=True)
class ErrorCounts:
  """How a hypothesis differs from its reference along one shortest edit; counts of several pairs add up with `+`.

  The number of errors is unique. Where several shortest edits exist, their split into kinds is that of one of them.
  """

  hits: int = 0
  substitutions: int = 0
  insertions: int = 0
  deletions: int = 0

  @property
  def errors(self) -> int:
    """Number of edits: substitutions, insertions and deletions."""
    return self.substitutions + self.insertions + self.deletions

  @property
  def reference_length(self) -> int:
    """Number of words or characters in the reference."""
    return self.hits + self.substitutions + self.deletions

  @property
  def rate(self) -> float:
    """Errors a word or character of the reference; more than 1 where much is inserted.

    An empty reference counts as one of length 1, so the rate is the number of insertions: 0.0 if the hypothesis is
    empty too, and finite always. In a sum such an utterance adds its insertions to the errors, and nothing to the length.
    """
    return self.errors / max(1, self.reference_length)

  def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
    """Return the counts of both together."""
    return ErrorCounts(
      self.hits + other.hits,
      self.substitutions + other.substitutions,
      self.insertions + other.insertions,
      self.deletions + other.deletions,
    )


@dataclass(frozen=True)
class Score:
  """Errors of a corpus.

  Attributes:
    words: word errors of all utterances together.
    chars: character errors of all utterances together; spaces count.
    mean_wer: mean over the utterances of their own word error rates, which is what the original reports. Short
      utterances weigh as much as long ones. See `ErrorCounts.rate` for an empty reference.
    mean_cer: the same for characters.
  """

  words: ErrorCounts
  chars: ErrorCounts
  mean_wer: float
  mean_cer: float

  @property
  def wer(self) -> float:
    """Word error rate of the corpus: all errors over all reference words."""
    return self.words.rate

  @property
  def cer(self) -> float:
    """Character error rate of the corpus: all errors over all reference characters."""
    return self.chars.rate


def count_errors(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> ErrorCounts:
  """Compare two sequences along a shortest edit.

  Args:
    reference: what was said.
    hypothesis: what was heard; its elements are compared with the reference's by equality.

  Returns:
    The counts that turn the reference into the hypothesis.
  """
  # rapidfuzz compares the hashes of what it is given. Numbers of our own keep apart what merely hashes alike.
  numbers = {}
  numbered = [[numbers.setdefault(symbol, len(numbers)) for symbol in sequence] for sequence in (reference, hypothesis)]
  kinds = Counter(edit.tag for edit in Levenshtein.editops(*numbered))
  hits = len(reference) - kinds["replace"] - kinds["delete"]
  return ErrorCounts(hits, kinds["replace"], kinds["insert"], kinds["delete"])


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
  """Compare two texts word by word; words are what white space separates."""
  return count_errors(reference.split(), hypothesis.split())


def char_errors(reference: str, hypothesis: str) -> ErrorCounts:
  """Compare two texts character by character; spaces count, case matters."""
  return count_errors(reference, hypothesis)


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
  """Score a corpus.

  Args:
    references: the transcripts, one an utterance.
    hypotheses: the decoded texts, in the same order.

  Returns:
    Counts over the whole corpus, and the means of the utterances' own rates.

  Raises:
    ValueError: if the two differ in length or are empty; a corpus of no utterances has no error rate.
  """
  if len(references) != len(hypotheses):
    raise ValueError(f"cannot pair {len(references)} references with {len(hypotheses)} hypotheses")
  if not references:
    raise ValueError("there is no utterance to score")
  words = [word_errors(*pair) for pair in zip(references, hypotheses, strict=True)]
  chars = [char_errors(*pair) for pair in zip(references, hypotheses, strict=True)]
  return Score(
    words=sum(words, ErrorCounts()),
    chars=sum(chars, ErrorCounts()),
    mean_wer=sum(counts.rate for counts in words) / len(words),
    mean_cer=sum(counts.rate for counts in chars) / len(chars),
  )


class DeepSpeechDecoder:
  """Knows the alphabet: what every decoder shares."""

  def __init__(self, labels: Sequence[str], blank_index: int | None = None):
    """Keep the alphabet.

    Args:
      labels: one label a class of the network, the blank's included: a string or a list of strings.
      blank_index: class of the CTC blank; None means the last.
    """
    if not labels:
      raise ValueError("the alphabet is empty: it needs at least the label of the blank")
    self.labels = tuple(labels)
    self.blank_index = len(labels) - 1 if blank_index is None else blank_index
    if not 0 <= self.blank_index < len(labels):
      raise ValueError(
        f"blank_index is {blank_index}, but the alphabet's {len(labels)} labels are 0 to {len(labels) - 1}"
      )

  def wer(self, decode: str, target: str) -> int:
    """Count the word errors of `decode` against `target`: a number, not a rate."""
    return word_errors(target, decode).errors

  def cer(self, decode: str, target: str) -> int:
    """Count the character errors of `decode` against `target`: a number, not a rate."""
    return char_errors(target, decode).errors

  def check_shapes(self, log_probs: np.ndarray, lengths: np.ndarray) -> None:
    """Refuse a batch that does not fit the alphabet or its own lengths.

    Args:
      log_probs: to be [batch, time, classes].
      lengths: to be integers [batch], each between 0 and time.

    Raises:
      ValueError: quoting what came and what was expected.
    """
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
      raise ValueError(f"lengths has {lengths.min()} to {lengths.max()} frames, but log_probs has {time} frames")


class GreedyDecoder(DeepSpeechDecoder):
  """Takes the best label of each frame, merges its runs and drops the blanks."""

  def decode(self, log_probs: np.ndarray, lengths: Sequence[int] | np.ndarray) -> list[Hypothesis]:
    """Decode a batch.

    Args:
      log_probs: float [batch, time, classes], log-probabilities; logits give the same text. Of equal values in a
        frame, the first is the best.
      lengths: integers [batch], frames of each utterance. What lies behind them is padding and never looked at.

    Returns:
      One hypothesis an utterance.

    Raises:
      ValueError: if the shapes do not fit, or a frame has no best label because of a NaN or of infinities.
    """
    lengths = np.asarray(lengths)
    ids, best = self.best_classes(np.asarray(log_probs), lengths)
    real = np.arange(best.shape[1]) < lengths[:, np.newaxis]
    scores = np.where(real, best, 0.0).sum(axis=1)
    texts = self.decode_classes(ids, lengths)
    return [Hypothesis(text, float(each)) for text, each in zip(texts, scores, strict=True)]

  def decode_words(self, log_probs: np.ndarray) -> list[TimedWord]:
    """Decode one utterance into words with their frames.

    Args:
      log_probs: float [time, classes] without padding, log-probabilities; logits give the same words.

    Returns:
      The words that white space separates in the text that `decode` gives, in order.

    Raises:
      ValueError: as `decode` does for a batch of this utterance alone.
    """
    batch = np.asarray(log_probs)[np.newaxis]
    ids, best = (each[0] for each in self.best_classes(batch, np.array(batch.shape[1:2], np.int64)))
    posteriors = 1 / np.exp(batch[0] - best[:, np.newaxis]).sum(axis=1)
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
    return words

  def best_classes(self, log_probs: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the best label of each frame.

    Args:
      log_probs: float [batch, time, classes].
      lengths: integers [batch], frames of each utterance.

    Returns:
      The labels' classes and their scores in float64, both [batch, time]; what lies behind the lengths means nothing.

    Raises:
      ValueError: as `decode` does.
    """
    self.check_shapes(log_probs, lengths)
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

  def decode_classes(self, classes: np.ndarray, lengths: np.ndarray) -> list[str]:
    """Merge each utterance's runs of frames and drop the blanks.

    Args:
      classes: integers [batch, time], the best label of each frame.
      lengths: integers [batch], frames of each utterance. What lies behind them is never looked at.

    Returns:
      One text an utterance.

    Raises:
      ValueError: if a class is none of the alphabet's.
    """
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

  def decode_ids(self, ids: Sequence[int] | np.ndarray) -> str:
    """Do the same for one utterance's label ids, integers [time] without padding."""
    ids = np.asarray(ids, np.int64)
    return self.decode_classes(ids[np.newaxis], np.array([len(ids)]))[0]
