"""Times greedy evaluation, from log-probabilities to WER and CER, against the original's form."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

import decoder
import scoring
from benchmarks import original_evaluation, timing
from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from training import evaluation

LABELS = " abcdefghijklmnopqrstuvwxyz'-"
BLANK = len(LABELS) - 1
STEPS_PER_SECOND = 25
# Letters per second; words of the made-up language; how often a letter is misheard, left out or made up.
LETTER_RATE, NUM_WORDS, ERROR_RATE = 15, 500, 0.06


class Corpus(NamedTuple):
  """Made-up results of a network.

  Attributes:
    references: what was said.
    log_probs: float32 [utterances, time, classes].
  """

  references: list[str]
  log_probs: np.ndarray


def define_benchmark_flags() -> None:
  """Define the flags for the size of the corpus."""
  flags.DEFINE_integer("utterances", 2700, "The number of utterances.", lower_bound=1)
  flags.DEFINE_float("seconds", 15, "The length of each in seconds, with 25 output steps per second.", lower_bound=1)
  flags.DEFINE_integer("batch_size", 128, "The number of utterances that ours decodes at once.", lower_bound=1)
  flags.DEFINE_integer("part", 50, "The number of utterances that the original's form is timed on.", lower_bound=1)
  timing.define_timing_flags(["original_form"])


def make_corpus(num_utterances: int, num_seconds: float) -> Corpus:
  """Make up sentences and log-probabilities whose best path spells them with some errors."""
  generator = np.random.default_rng(1)
  num_steps = int(num_seconds * STEPS_PER_SECOND)
  lengths = generator.integers(1, 9, NUM_WORDS)
  words = ["".join(LABELS[letter] for letter in generator.integers(1, 27, length)) for length in lengths]
  references = [make_sentence(words, int(num_seconds * LETTER_RATE), generator) for _ in range(num_utterances)]
  log_probs = generator.standard_normal([num_utterances, num_steps, len(LABELS)], np.float32)
  for row, reference in zip(log_probs, references, strict=True):
    row[np.arange(num_steps), make_path(reference, num_steps, generator)] += 12
  log_probs -= np.log(np.sum(np.exp(log_probs), axis=2, keepdims=True))
  return Corpus(references, log_probs)


def make_sentence(words: Sequence[str], num_letters: int, generator: np.random.Generator) -> str:
  """Draw words up to a number of letters."""
  chosen = [words[number] for number in generator.integers(0, len(words), num_letters)]
  return " ".join(chosen)[:num_letters].strip()


def make_path(reference: str, num_steps: int, generator: np.random.Generator) -> np.ndarray:
  """Place a reference's letters, some of them wrong, among blanks; [num_steps] classes."""
  letters = np.array([LABELS.index(letter) for letter in reference])
  letters = letters[generator.random(len(letters)) >= ERROR_RATE / 3]
  wrong = generator.random(len(letters)) < ERROR_RATE * 2 / 3
  letters = np.where(wrong, generator.integers(0, BLANK, len(letters)), letters)
  path = np.full(num_steps, BLANK)
  path[np.sort(generator.choice(num_steps, len(letters), replace=False))] = letters
  return path


def build_ours(corpus: Corpus, batch_size: int) -> Callable[[], scoring.Score]:
  """Build the graph that prediction uses; return a function that evaluates the corpus once."""
  with tf.Graph().as_default():
    log_probs = tf.compat.v1.placeholder(tf.float32, [None, None, len(LABELS)])
    lengths = tf.fill(tf.shape(log_probs)[:1], tf.shape(log_probs)[1])
    named = evaluation.predictions(log_probs, lengths, {})
    fetches = [named[name] for name in (decoder.CLASSES, "length", "is_finite")]
    session = tf.compat.v1.Session()
  greedy_decoder = decoder.GreedyDecoder(LABELS, wants=decoder.CLASSES)

  def evaluate():
    texts = []
    for start in range(0, len(corpus.references), batch_size):
      classes, lengths, _ = session.run(fetches, {log_probs: corpus.log_probs[start : start + batch_size]})
      texts += [hypothesis.text for hypothesis in greedy_decoder.decode(classes, lengths)]
    return scoring.score(corpus.references, texts)

  return evaluate


def main(_: list[str]) -> None:
  """Time both forms in turn; print rates, medians, spread and ratio."""
  options = flags.FLAGS
  corpus = make_corpus(options.utterances, options.seconds)
  part = min(options.part, options.utterances)
  ours = build_ours(corpus, options.batch_size)

  def original():
    return original_evaluation.evaluate(corpus.log_probs[:part], corpus.references[:part], LABELS)

  forms = timing.choose({timing.OURS: ours, "original_form": original}, options.peer)
  seconds = timing.measure(forms, options.runs)
  score = ours()
  setting = f"{options.utterances} utterances of {options.seconds:g} s, WER {score.wer:.3f}, CER {score.cer:.3f}"
  if part < options.utterances:
    setting += f"; the original's form on {part} of them"
  timing.report("evaluation", setting, seconds, {"original_form": options.utterances / part})


if __name__ == "__main__":
  define_benchmark_flags()
  flags_core.run(main, __doc__)
