"""Greedy evaluation as the original does it: one utterance at a time in Python, distances by nltk."""

import itertools
from collections.abc import Sequence

import numpy as np


def decode(probabilities: np.ndarray, labels: Sequence[str]) -> str:
  """Take each frame's best label of [time, classes], merge runs, drop the blank, which is the last label."""
  best = list(np.argmax(probabilities, axis=1))
  merged = [label for label, _ in itertools.groupby(best)]
  return "".join([labels[label] for label in merged if label != len(labels) - 1])


def word_errors(text: str, reference: str) -> int:
  """Count word errors: each word becomes a character, and the characters are compared."""
  numbers = {word: number for number, word in enumerate(set(text.split() + reference.split()))}
  return char_errors(*("".join([chr(numbers[word]) for word in each.split()]) for each in (text, reference)))


def char_errors(text: str, reference: str) -> int:
  """Count character errors."""
  # Imported here because it takes a second to load.
  from nltk.metrics import distance

  return distance.edit_distance(text, reference)


def evaluate(utterances: Sequence[np.ndarray], references: Sequence[str], labels: Sequence[str]) -> tuple[float, float]:
  """Decode and compare all utterances.

  Args:
    utterances: probabilities or their logarithms, [time, classes] each.
    references: what was said.
    labels: the labels in order, the blank last.

  Returns:
    The means of the utterances' word and character error rates.
  """
  total_wer, total_cer = 0.0, 0.0
  for probabilities, reference in zip(utterances, references, strict=True):
    text = decode(probabilities, labels)
    total_cer += char_errors(text, reference) / len(reference)
    total_wer += word_errors(text, reference) / len(reference.split())
  return total_wer / len(references), total_cer / len(references)
