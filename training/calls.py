"""Wraps the calls of the Estimator's train and predict."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from data import dataset as speech_dataset
from data.batches import PlannedBatches
from decoder import Decoder
from official_utils import checkpoints
from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from training import evaluation

# How many of the newest checkpoints are kept in any case.
KEPT_CHECKPOINTS = 5


@contextlib.contextmanager
def one_graph(chosen: speech_dataset.DeepSpeechDataset) -> Iterator[None]:
  """Release graph and input at the end, and turn TensorFlow's errors into the input's own error or a UserError.

  Args:
    chosen: the set that the call reads.
  """
  log = tf.get_logger()
  log.addFilter(_is_news)
  try:
    with tf_estimator.released_graphs():
      yield
  except tf.errors.OpError as error:
    if chosen.failure:
      raise chosen.failure from None
    if "No space left" in error.message:
      raise UserError("the disk of --model_dir is full; make room and start again, the run will continue") from error
    if isinstance(error, tf.errors.ResourceExhaustedError):
      raise UserError("out of memory; lower --batch_size, --batch_seconds or --rnn_hidden_size") from error
    raise
  except tf.compat.v1.train.NanLossDuringTrainingError:
    raise UserError(
      "the loss became NaN; lower --learning_rate, and --loss_scale if it is a number, or give --clip_norm, such as "
      "--clip_norm=5, and start again"
    ) from None
  finally:
    chosen.close_passes()
    log.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
  """Tell whether a line of TensorFlow's log says something that our own messages do not."""
  return "diverged with loss = NaN" not in record.getMessage()


def run_config(average_checkpoints: int, **options: Any) -> "tf_estimator.RunConfig":
  """Make the Estimator's settings: its own hooks stay away (see `progress.CurvesHook`), enough checkpoints are kept.

  Args:
    average_checkpoints: how many checkpoints are wanted at least.
    **options: further arguments of RunConfig.
  """
  kept = max(KEPT_CHECKPOINTS, average_checkpoints)
  return tf_estimator.RunConfig(save_summary_steps=0, log_step_count_steps=None, keep_checkpoint_max=kept, **options)


def bind_input_fn(
  chosen: speech_dataset.DeepSpeechDataset,
  batches: PlannedBatches,
  num_replicas: int,
  num_threads: int | None = None,
) -> Callable[[], "tf.data.Dataset"]:
  """Bind an input_fn for the Estimator.

  Args:
    chosen: the set.
    batches: the global batches.
    num_replicas: the number of batches that each global batch is split into.
    num_threads: threads that read audio; None for one per processor.
  """
  return lambda: speech_dataset.batched_input_fn(chosen, batches, num_replicas, num_threads)


def restore_errors() -> tuple[type[Exception], ...]:
  """List the errors that TensorFlow raises when a session cannot restore a checkpoint."""
  return tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.OutOfRangeError


def score_set(
  estimator: "tf_estimator.Estimator",
  decoder: Decoder,
  chosen: speech_dataset.DeepSpeechDataset,
  batches: PlannedBatches,
  num_threads: int | None = None,
  checkpoint: str | None = None,
) -> evaluation.Evaluation:
  """Transcribe and score a set on one device.

  Args:
    estimator: the trained estimator.
    decoder: turns its predictions into texts.
    chosen: the set.
    batches: its batches.
    num_threads: threads that read audio; None for one per processor.
    checkpoint: the one to evaluate; None for the newest.
  """
  checkpoint = checkpoint or estimator.latest_checkpoint()
  try:
    with one_graph(chosen):
      input_fn = bind_input_fn(chosen, batches, 1, num_threads)
      return evaluation.evaluate(estimator, decoder, chosen.entries, input_fn, checkpoint)
  except restore_errors() as error:
    raise checkpoints.damaged_checkpoint(checkpoint) from error
