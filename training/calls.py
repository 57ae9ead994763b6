"""What every call of the Estimator's train and predict needs around it."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence

from data import dataset as speech_dataset
from official_utils import estimator as tf_estimator
from official_utils.lazy import tf
from official_utils.misc.errors import UserError


@contextlib.contextmanager
def one_graph(chosen: speech_dataset.DeepSpeechDataset) -> Iterator[None]:
  """Let go of the graph at the end; raise what went wrong in the input's generator in place of TensorFlow's account.

  Args:
    chosen: the set that the call reads.
  """
  try:
    with tf_estimator.released_graphs():
      yield
  except tf.errors.OpError:
    if chosen.failure is None:
      raise
    raise chosen.failure from None
  except tf.compat.v1.train.NanLossDuringTrainingError:
    raise UserError("the loss became NaN; lower --learning_rate and start again.") from None


def bind_input_fn(
  chosen: speech_dataset.DeepSpeechDataset,
  batches: Collection[Sequence[int]],
  num_replicas: int,
  num_threads: int | None = None,
) -> Callable[[], "tf.data.Dataset"]:
  """Bind an input_fn for the Estimator.

  Args:
    chosen: the set.
    batches: each global batch as indices into its entries.
    num_replicas: each global batch is given as so many batches.
    num_threads: threads that read audio; None for one a processor.
  """
  return lambda: speech_dataset.batched_input_fn(chosen, batches, num_replicas, num_threads)
