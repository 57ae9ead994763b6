"""Compares texts with their references: errors, alignments, rates."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rapidfuzz.distance import Levenshtein

Element = TypeVar("Element", bound=Hashable)


@dataclass(frozen=True)
class ErrorCounts:
  """How a hypothesis differs from its reference along one shortest edit; counts of several pairs add up with `+`.

  The number of errors is unique. If there are several shortest edits, the split into kinds is that of one of them.
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
    """Errors per word or character of the reference; above 1 if much is inserted.

    An empty reference counts as one of length 1, so the rate is the number of insertions: 0.0 if the hypothesis is
    empty too, and always finite. In a sum such an utterance adds only its insertions, and nothing to the length.
    """
    return self.errors / max(1, self.reference_length)

  def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
    """Return the sum of the counts."""
    return ErrorCounts(
      self.hits + other.hits,
      self.substitutions + other.substitutions,
      self.insertions + other.insertions,
      self.deletions + other.deletions,
    )


@dataclass(frozen=True)
class UtteranceScore:
  """Errors of one utterance.

  Attributes:
    reference: what was said.
    hypothesis: what was heard.
    words: word errors.
    chars: character errors; spaces count.
  """

  reference: str
  hypothesis: str
  words: ErrorCounts
  chars: ErrorCounts

  @property
  def alignment(self) -> list[tuple[str | None, str | None]]:
    """The words of reference and hypothesis side by side along a shortest edit, None where one side has no word."""
    return align(self.reference.split(), self.hypothesis.split())


@dataclass(frozen=True)
class Score:
  """Errors of a corpus.

  Attributes:
    utterances: the errors of each utterance, in the order given.
    words: word errors of all utterances together.
    chars: character errors of all utterances together; spaces count.
    mean_wer: mean over the utterances of their own word error rates, which is what the original reports. Short
      utterances weigh as much as long ones. See `ErrorCounts.rate` for an empty reference.
    mean_cer: the same for characters.
  """

  utterances: tuple[UtteranceScore, ...]
  words: ErrorCounts
  chars: ErrorCounts
  mean_wer: float
  mean_cer: float

  @property
  def texts(self) -> list[str]:
    """The hypotheses, in the order given."""
    return [utterance.hypothesis for utterance in self.utterances]

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
    hypothesis: what was heard; elements are compared by equality.

  Returns:
    The counts that turn the reference into the hypothesis.
  """
  kinds = Counter(edit.tag for edit in Levenshtein.editops(*_numbered(reference, hypothesis)))
  hits = len(reference) - kinds["replace"] - kinds["delete"]
  return ErrorCounts(hits, kinds["replace"], kinds["insert"], kinds["delete"])


def align(reference: Sequence[Element], hypothesis: Sequence[Element]) -> list[tuple[Element | None, Element | None]]:
  """Put two sequences side by side along a shortest edit, the one that `count_errors` counts.

  Args:
    reference: what was said.
    hypothesis: what was heard.

  Returns:
    Pairs of an element of each, in order; None where one side has nothing to pair with.
  """
  pairs: list[tuple[Element | None, Element | None]] = []
  for edit in Levenshtein.opcodes(*_numbered(reference, hypothesis)):
    said = reference[edit.src_start : edit.src_end]
    heard = hypothesis[edit.dest_start : edit.dest_end]
    if edit.tag == "delete":
      pairs += [(element, None) for element in said]
    elif edit.tag == "insert":
      pairs += [(None, element) for element in heard]
    else:
      pairs += zip(said, heard, strict=True)
  return pairs


def _numbered(*sequences: Sequence[Hashable]) -> list[list[int]]:
  """Replace each element by a number of our own: rapidfuzz compares hashes, and unequal elements may hash alike."""
  numbers: dict[Hashable, int] = {}
  return [[numbers.setdefault(element, len(numbers)) for element in sequence] for sequence in sequences]


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
  """Compare two texts word by word; white space separates words."""
  return count_errors(reference.split(), hypothesis.split())


def char_errors(reference: str, hypothesis: str) -> ErrorCounts:
  """Compare two texts character by character; spaces count, case matters."""
  return count_errors(reference, hypothesis)


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
  """Score a corpus.

  Args:
    references: the transcripts, one per utterance.
    hypotheses: the decoded texts, in the same order.

  Returns:
    Counts over the whole corpus, counts of each utterance, and the means of the utterances' own rates.

  Raises:
    ValueError: if the two differ in length or are empty; a corpus without utterances has no error rate.
  """
  if len(references) != len(hypotheses):
    raise ValueError(f"cannot pair {len(references)} references with {len(hypotheses)} hypotheses")
  if not references:
    raise ValueError("there are no utterances to score")
  utterances = tuple(
    UtteranceScore(*pair, word_errors(*pair), char_errors(*pair)) for pair in zip(references, hypotheses, strict=True)
  )
  return Score(
    utterances=utterances,
    words=sum((each.words for each in utterances), ErrorCounts()),
    chars=sum((each.chars for each in utterances), ErrorCounts()),
    mean_wer=sum(each.words.rate for each in utterances) / len(utterances),
    mean_cer=sum(each.chars.rate for each in utterances) / len(utterances),
  )
