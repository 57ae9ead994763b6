"""How the network is trained, and when training ends."""

from collections.abc import Callable

from absl import flags

RNN_KERNELS = ("auto", "native", "cudnn", "compiled")
LEARNING_RATE_SCHEDULES = ("constant", "cosine")
EPOCH_ORDERS = ("batches", "sorted", "utterances")
BEST_METRICS = ("wer", "cer", "loss")


def define_training_flags(define: Callable[..., None]) -> None:
  """Define the flags for how the network is trained and when training ends."""
  define(
    flags.DEFINE_enum,
    "rnn_kernel",
    "auto",
    """What computes the recurrent layers: 'cudnn' needs NVIDIA GPUs and an rnn_type of lstm or gru_reset_after, 'auto'
    takes cudnn if possible, 'native' is our own code, 'compiled' has XLA compile it, for the other rnn_types on GPUs.
    Checkpoints are the same.""",
    enum_values=RNN_KERNELS,
  )
  define(flags.DEFINE_float, "learning_rate", 5e-4, "The learning rate of Adam.")
  define(
    flags.DEFINE_enum,
    "learning_rate_schedule",
    "constant",
    """What the learning rate does after the warm-up: 'constant' keeps it, 'cosine' lets it fall to 0 over the steps of
    train_epochs, slowly at first and at the end.""",
    enum_values=LEARNING_RATE_SCHEDULES,
  )
  define(
    flags.DEFINE_integer,
    "warmup_steps",
    0,
    "The steps at the beginning of training in which the learning rate rises from 0 to learning_rate.",
  )
  define(
    flags.DEFINE_float,
    "clip_norm",
    None,
    """The largest global norm of the gradients of a batch, all devices together; longer ones are shortened to it, so
    that no batch changes the weights by too much. Not given: they are left as they are.""",
  )
  define(
    flags.DEFINE_boolean,
    "sortagrad",
    True,
    "Whether the first epoch goes from the shortest to the longest utterance, instead of shuffling the batches.",
  )
  define(
    flags.DEFINE_float,
    "batch_seconds",
    None,
    """The seconds of audio, padding included, that a batch may hold on all devices together. It replaces batch_size, so
    that batches of short utterances become larger. Not given: batch_size decides.""",
  )
  define(flags.DEFINE_integer, "seed", 1, "The seed of the initial weights and of the shuffling.")
  define(
    flags.DEFINE_float,
    "wer_threshold",
    None,
    """Stop before train_epochs once the word error rate of the evaluation is at or below this value; MLPerf asked for
    0.23 on LibriSpeech. stop_threshold means the same here.""",
  )


def define_run_flags(define: Callable[..., None]) -> None:
  """Define the flags for how a run goes through epochs and cycles."""
  define(
    flags.DEFINE_enum,
    "epoch_order",
    "batches",
    """The order within an epoch: 'batches' shuffles whole batches of utterances of about the same length, 'utterances'
    shuffles all utterances, which fill batches as they come, 'sorted' goes from short to long in every epoch.""",
    enum_values=EPOCH_ORDERS,
  )
  define(
    flags.DEFINE_float,
    "eval_every_minutes",
    None,
    """Evaluate, export and so on after so many minutes of training, in the middle of an epoch too, and then go on with
    the next batch. Not given: after epochs_between_evals epochs.""",
  )
  define(
    flags.DEFINE_enum,
    "best_metric",
    "wer",
    """What makes a model the best, the lower the better: the word error rate or the character error rate of the
    evaluation set, or 'loss', the mean of its utterances' CTC losses. With modes 'evaluate' and 'export', what the model
    was trained with counts.""",
    enum_values=BEST_METRICS,
  )
