"""Transcribes a set of utterances with the trained network and counts the errors."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import scoring
from data.batches import Batching, EpochBatches
from data.manifest import Entry
from decoder import CLASSES, Decoder, Hypothesis
from official_utils import checkpoints
from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc.errors import UserError

WER_KEY = "WER"
CER_KEY = "CER"
# Not "loss", which is that of training.
LOSS_KEY = "eval_loss"


@dataclass(frozen=True)
class Evaluation:
  """The result of transcribing a set.

  Attributes:
    score: the errors of the whole set and of each utterance, with the texts and their alignment.
    loss: see `transcribe_entries`.
    global_step: the training step of the checkpoint.
  """

  score: scoring.Score
  loss: float
  global_step: int

  def results(self) -> dict[str, float]:
    """Return the numbers by name: corpus rates WER and CER, means of the utterances' rates, eval_loss, global_step."""
    return {
      WER_KEY: self.score.wer,
      CER_KEY: self.score.cer,
      "mean_WER": self.score.mean_wer,
      "mean_CER": self.score.mean_cer,
      LOSS_KEY: self.loss,
      "global_step": self.global_step,
    }

  def summary(self) -> str:
    """Return both rates in a few words."""
    return f"WER {self.score.wer:.4f}  CER {self.score.cer:.4f}"

  def print_samples(self, entries: Sequence[Entry], count: int) -> None:
    """Print what was said and what was heard in some utterances.

    Args:
      entries: the set, from short to long.
      count: how many to print, spread over the set.
    """
    for index in sorted({number * len(entries) // count for number in range(count)}):
      entry, heard = entries[index], self.score.utterances[index].hypothesis
      print(f"{entry.path}\n  said:  {entry.transcript}\n  heard: {heard}", flush=True)


def evaluate(
  estimator: "tf_estimator.Estimator",
  decoder: Decoder,
  entries: Sequence[Entry],
  input_fn: Callable,
  checkpoint: str | None = None,
) -> Evaluation:
  """Transcribe an evaluation set and count the errors.

  Args:
    estimator: the trained estimator.
    decoder: turns its predictions into texts.
    entries: the set's entries; their transcripts are the references.
    input_fn: yields the set's batches; their `index` says which entry an utterance is.
    checkpoint: the one to evaluate; None for the newest.
  """
  checkpoint = checkpoint or estimator.latest_checkpoint()
  by_index, loss = transcribe_entries(estimator, decoder, input_fn, checkpoint)
  if len(by_index) != len(entries):
    raise RuntimeError(f"{len(by_index)} of {len(entries)} utterances were transcribed")
  texts = [by_index[index].text for index in range(len(entries))]
  score = scoring.score([entry.transcript for entry in entries], texts)
  return Evaluation(score, loss, int(checkpoints.read_variable(checkpoint, "global_step")))


def plan_batches(
  seconds: Sequence[float],
  batch_size: int,
  mask_padding: bool,
  longest: float,
  batch_seconds: float | None = None,
) -> EpochBatches:
  """Plan batches as large as the largest that a device is given in training.

  Args:
    seconds: how long each utterance is, from short to long.
    batch_size: utterances that a device is given in a training step.
    mask_padding: whether padding is kept out of the results. If not, results depend on the other utterances of the
      batch, and each batch has `batch_size` utterances.
    longest: seconds of the longest utterance of training.
    batch_seconds: seconds that a device is given in a training step, if batches are counted in seconds.
  """
  largest = max(longest, batch_seconds or batch_size * longest) if mask_padding else None
  return Batching(seconds, batch_size, largest).of_epochs([0])


def transcribe_entries(
  estimator: "tf_estimator.Estimator", decoder: Decoder, input_fn: Callable, checkpoint: str | None = None
) -> tuple[dict[int, Hypothesis], float]:
  """Transcribe all batches.

  Args:
    estimator: the trained estimator.
    decoder: turns its predictions into texts.
    input_fn: yields batches; their `index` says which entry an utterance is.
    checkpoint: the one to use; None for the newest.

  Returns:
    The hypothesis of each entry, by its index, and the mean CTC loss of the utterances whose weight is not 0.
  """
  heard: dict[int, Hypothesis] = {}
  losses: list[float] = []

  def with_labels():
    # Estimator's predict drops what is not among the features.
    return input_fn().map(lambda features, labels: (features | {"labels": labels}, labels))

  # Only what the decoder wants leaves the graph.
  keys = [decoder.wants, "length", "is_finite", "index", "loss", "weight"]
  for batch in estimator.predict(with_labels, keys, None, checkpoint, yield_single_examples=False):
    if not batch["is_finite"].all():
      raise UserError(
        f"the network of {checkpoint or estimator.model_dir} gives NaN; start over with --clean and a lower "
        "--learning_rate, or name an older checkpoint in the file `checkpoint` of its model_dir"
      )
    hypotheses = decoder.decode(batch[decoder.wants], batch["length"])
    heard.update(zip(batch["index"].tolist(), hypotheses, strict=True))
    losses += batch["loss"][batch["weight"] > 0].tolist()
  # Exact sums, so that the order of the batches does not matter.
  return heard, math.fsum(losses) / max(1, len(losses))


def predictions(
  logits: "tf.Tensor",
  lengths: "tf.Tensor",
  features: Mapping[str, "tf.Tensor"],
  losses: "tf.Tensor | None" = None,
) -> dict[str, "tf.Tensor"]:
  """Name the tensors that a caller of `predict` may ask for; the others are not computed.

  Args:
    logits: [batch, time, classes].
    lengths: [batch], real steps.
    features: the network's inputs, whose "index" and "weight" [batch, 1] are passed on.
    losses: [batch, 1], the utterances' losses; None if they are not known.
  """
  named = {
    "logits": logits,
    "probabilities": tf.nn.softmax(logits),
    "log_probs": tf.nn.log_softmax(logits),
    "length": lengths,
    CLASSES: _best_classes(logits),
    # From the sum and not from single truth values: oneDNN complains on standard error when those are transposed.
    "is_finite": tf.math.is_finite(tf.reduce_sum(logits, axis=[1, 2])),
  }
  columns = {name: features[name] for name in ("index", "weight") if name in features}
  if losses is not None:
    columns["loss"] = losses
  return named | {name: tf.squeeze(column, axis=1) for name, column in columns.items()}


def scaffold() -> "tf.compat.v1.train.Scaffold":
  """Make what an EstimatorSpec needs so that the averages of weights are evaluated, if the checkpoint has any."""
  from training.averages import AveragesSaver

  return tf.compat.v1.train.Scaffold(saver=AveragesSaver())


def _best_classes(logits):
  """Find the best class of each frame, int32 [batch, time]."""
  return tf.argmax(logits, axis=2, output_type=tf.int32)


def error_metrics(
  logits: "tf.Tensor",
  lengths: "tf.Tensor",
  labels: "tf.Tensor",
  label_lengths: "tf.Tensor",
  decoder: Decoder,
) -> dict:
  """Build the corpus WER and CER as Estimator metrics.

  Args:
    logits: [batch, time, classes].
    lengths: [batch], real steps.
    labels: [batch, labels].
    label_lengths: [batch], real labels.
    decoder: a decoder of CLASSES.

  Returns:
    Name to (value, update).
  """

  def count(classes, lengths, labels, label_lengths):
    references = ["".join(decoder.labels[i] for i in row[:n]) for row, n in zip(labels, label_lengths, strict=True)]
    score = scoring.score(references, [hypothesis.text for hypothesis in decoder.decode(classes, lengths)])
    counts = [score.words.errors, score.words.reference_length, score.chars.errors, score.chars.reference_length]
    return tf.constant(counts, tf.float32).numpy()

  arguments = [_best_classes(logits), lengths, labels, label_lengths]
  counts = tf.ensure_shape(tf.numpy_function(count, arguments, tf.float32), [4])
  means, update = tf.compat.v1.metrics.mean_tensor(counts)
  return {
    WER_KEY: (tf.math.divide_no_nan(means[0], means[1]), update),
    CER_KEY: (tf.math.divide_no_nan(means[2], means[3]), update),
  }
