"""Transcribes a set of utterances with the trained network and counts the errors."""

from collections.abc import Callable, Sequence

import decoder
from data.manifest import Entry
from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc.errors import UserError

WER_KEY = "WER"
CER_KEY = "CER"


def evaluate_model(
  estimator: "tf_estimator.Estimator",
  speech_labels: Sequence[str],
  entries: Sequence[Entry],
  input_fn_eval: Callable,
  checkpoint: str | None = None,
) -> tuple[dict, list[str]]:
  """Transcribe an evaluation set and count the errors.

  Args:
    estimator: the trained estimator.
    speech_labels: the labels in order, the blank last.
    entries: the set's entries; their transcripts are the references.
    input_fn_eval: yields the set's batches; their `index` says which entry an utterance is.
    checkpoint: the one to evaluate; None for the newest.

  Returns:
    The results: the corpus rates WER and CER, the original's means of the utterances' rates (mean_WER, mean_CER), and
    global_step; and the texts heard, in the order of the entries.
  """
  checkpoint = checkpoint or estimator.latest_checkpoint()
  by_index = transcribe_entries(estimator, speech_labels, input_fn_eval, checkpoint)
  if len(by_index) != len(entries):
    raise RuntimeError(f"{len(by_index)} of {len(entries)} utterances were transcribed")
  texts = [by_index[index] for index in range(len(entries))]
  score = decoder.score([entry.transcript for entry in entries], texts)
  results = {
    WER_KEY: score.wer,
    CER_KEY: score.cer,
    "mean_WER": score.mean_wer,
    "mean_CER": score.mean_cer,
    "global_step": int(tf.train.load_variable(checkpoint, "global_step")),
  }
  return results, texts


def transcribe_entries(
  estimator: "tf_estimator.Estimator", speech_labels: Sequence[str], input_fn: Callable, checkpoint: str | None = None
) -> dict[int, str]:
  """Transcribe all batches greedily.

  Args:
    estimator: the trained estimator.
    speech_labels: the labels in order, the blank last.
    input_fn: yields batches; their `index` says which entry an utterance is.
    checkpoint: the one to use; None for the newest.

  Returns:
    Entry to text.
  """
  greedy_decoder = decoder.GreedyDecoder(speech_labels)
  texts: dict[int, str] = {}
  # Nothing with an axis of classes leaves the graph.
  keys = ["classes", "length", "is_finite", "index"]
  for batch in estimator.predict(input_fn, keys, None, checkpoint, yield_single_examples=False):
    if not batch["is_finite"].all():
      raise UserError(
        f"the network in {estimator.model_dir} has come to NaN; start anew with --clean and a lower --learning_rate, or "
        "name an older checkpoint in its file `checkpoint`"
      )
    heard = greedy_decoder.decode_classes(batch["classes"], batch["length"])
    texts.update(zip(batch["index"].tolist(), heard, strict=True))
  return texts


def greedy_predictions(logits: "tf.Tensor") -> dict[str, "tf.Tensor"]:
  """Build what greedy decoding needs to know of a batch.

  Args:
    logits: [batch, time, classes].

  Returns:
    The best "classes", int32 [batch, time], and "is_finite", [batch].
  """
  return {
    "classes": tf.argmax(logits, axis=2, output_type=tf.int32),
    # Not from single truth values: oneDNN complains on standard error where those are transposed.
    "is_finite": tf.math.is_finite(tf.reduce_sum(logits, axis=[1, 2])),
  }


def error_metrics(
  logits: "tf.Tensor",
  lengths: "tf.Tensor",
  labels: "tf.Tensor",
  label_length: "tf.Tensor",
  speech_labels: Sequence[str],
) -> dict:
  """Build the corpus WER and CER of greedy decoding as metrics of an Estimator.

  Args:
    logits: [batch, time, classes].
    lengths: [batch], real steps.
    labels: [batch, labels].
    label_length: [batch, 1], real labels.
    speech_labels: the labels in order, the blank last.

  Returns:
    Name to (value, update).
  """
  greedy_decoder = decoder.GreedyDecoder(speech_labels)

  def count(classes, lengths, labels, label_lengths):
    references = ["".join(speech_labels[i] for i in row[:n]) for row, n in zip(labels, label_lengths, strict=True)]
    score = decoder.score(references, greedy_decoder.decode_classes(classes, lengths))
    counts = [score.words.errors, score.words.reference_length, score.chars.errors, score.chars.reference_length]
    return tf.constant(counts, tf.float32).numpy()

  arguments = [greedy_predictions(logits)["classes"], lengths, labels, tf.squeeze(label_length, axis=1)]
  counts = tf.ensure_shape(tf.numpy_function(count, arguments, tf.float32), [4])
  means, update = tf.compat.v1.metrics.mean_tensor(counts)
  return {
    WER_KEY: (tf.math.divide_no_nan(means[0], means[1]), update),
    CER_KEY: (tf.math.divide_no_nan(means[2], means[3]), update),
  }


def print_samples(entries: Sequence[Entry], texts: Sequence[str], count: int) -> None:
  """Print what was said and what is heard in some utterances.

  Args:
    entries: the set, from short to long.
    texts: what is heard in each.
    count: how many to print, spread over the set.
  """
  for index in sorted({number * len(entries) // count for number in range(count)}):
    print(f"{entries[index].path}\n  said:  {entries[index].transcript}\n  heard: {texts[index]}", flush=True)
