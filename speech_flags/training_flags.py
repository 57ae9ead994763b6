"""How the network is trained, and when training ends."""

from collections.abc import Callable

from absl import flags

RNN_KERNELS = ("auto", "native", "cudnn", "compiled")
LEARNING_RATE_SCHEDULES = ("constant", "cosine", "noam", "exponential", "plateau")
OPTIMIZERS = ("adam", "adamw", "nesterov", "momentum")
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
  define(flags.DEFINE_float, "learning_rate", 5e-4, "The learning rate of the optimizer, at its highest.")
  _define_schedule_flags(define)
  _define_optimizer_flags(define)
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
  define(flags.DEFINE_integer, "seed", 1, "The seed of the initial weights, the shuffling and the augmentation.")
  define(
    flags.DEFINE_float,
    "wer_threshold",
    None,
    """Stop before train_epochs once the word error rate of the evaluation is at or below this value; MLPerf asked for
    0.23 on LibriSpeech. stop_threshold means the same here.""",
  )


def _define_schedule_flags(define: Callable[..., None]) -> None:
  """Define the flags for how the learning rate changes."""
  define(
    flags.DEFINE_enum,
    "learning_rate_schedule",
    "constant",
    """What the learning rate does after the warm-up: 'constant' keeps it; over the steps of train_epochs, 'cosine' lets
    it fall slowly at first and at the end, 'exponential' by the same factor in each step; 'noam' lets it fall with the
    square root of the steps, so that it is learning_rate x min(s / warmup_steps, sqrt(warmup_steps / s)) in step s, and
    learning_rate is the peak; 'plateau' lowers it when evaluations bring no better word error rate.""",
    enum_values=LEARNING_RATE_SCHEDULES,
  )
  define(
    flags.DEFINE_integer,
    "warmup_steps",
    0,
    """The steps at the beginning of training in which the learning rate rises from 0 to learning_rate; with
    accumulate_steps, a step is an update of the weights.""",
  )
  define(
    flags.DEFINE_float,
    "final_learning_rate",
    0.0,
    "The share of learning_rate that is left at the end of train_epochs with 'cosine' and 'exponential', such as 0.01.",
  )
  define(
    flags.DEFINE_integer,
    "plateau_patience",
    3,
    """After how many evaluations in a row without a word error rate below the lowest so far 'plateau' lowers the
    learning rate; the count then begins anew.""",
  )
  define(flags.DEFINE_float, "plateau_factor", 0.5, "What 'plateau' multiplies the learning rate by.")


def _define_optimizer_flags(define: Callable[..., None]) -> None:
  """Define the flags for how gradients change the weights."""
  define(
    flags.DEFINE_enum,
    "optimizer",
    "adam",
    """The rule by which gradients change the weights: 'adam'; 'adamw', the same with decoupled weight_decay;
    'momentum', with a velocity v = momentum x v + gradient; 'nesterov', where weights lose learning_rate x (gradient +
    momentum x v).""",
    enum_values=OPTIMIZERS,
  )
  define(flags.DEFINE_float, "momentum", 0.9, "The momentum of 'nesterov' and 'momentum'; 0 is plain gradient descent.")
  define(
    flags.DEFINE_float,
    "weight_decay",
    None,
    """How strongly kernels, not biases and normalisations, are drawn to 0: with 'adamw' an update takes away
    learning_rate x weight_decay of them; with the other optimizers weight_decay x kernel is added to the gradient,
    after clipping (an L2 penalty). Not given: not at all.""",
  )
  define(
    flags.DEFINE_float,
    "clip_norm",
    None,
    """The largest global norm of the gradients of an update, all devices together; longer ones are shortened to it, so
    that no batch changes the weights by too much. Not given: they are left as they are.""",
  )
  define(
    flags.DEFINE_integer,
    "accumulate_steps",
    1,
    """The number of batches whose mean gradient makes one update of the weights, so that batches may be as many times
    smaller. Steps are still counted by batches, in eval.jsonl and in the names of checkpoints.""",
  )
  define(
    flags.DEFINE_float,
    "ema_decay",
    None,
    """Keep an exponential moving average of the weights, of which an update leaves this share, such as 0.999 (at first
    less: (1 + n) / (10 + n) after n updates). It is in the checkpoints, and is what is evaluated, exported and used for
    transcribing. Not given: no average.""",
  )
  define(
    flags.DEFINE_integer,
    "average_checkpoints",
    1,
    """With the modes 'evaluate' and 'export': take the mean of so many of the newest checkpoints in model_dir. In
    training: keep at least so many; 5 are kept in any case.""",
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
