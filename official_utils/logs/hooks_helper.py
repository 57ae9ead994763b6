"""Makes training hooks by name, and loads TensorFlow only when it makes one."""

from collections.abc import Callable, Sequence

from official_utils.lazy import tf
from official_utils.logs.logger import BaseBenchmarkLogger

# The names that a model_fn must give to its tensors so that the hooks find them.
TENSORS_TO_LOG = ("learning_rate", "cross_entropy")


def get_train_hooks(name_list: Sequence[str] | None, **kwargs: object) -> list["tf.compat.v1.train.SessionRunHook"]:
  """Make the hooks that --hooks names.

  Args:
    name_list: names of HOOKS in upper or lower case; None or empty for no hooks.
    **kwargs: arguments for the hooks: model_dir, batch_size, metric_logger, tensors_to_log, every_n_iter, every_n_secs,
      every_n_steps, warm_steps, save_steps. Each hook takes the ones it knows.

  Returns:
    A new hook for each name.

  Raises:
    ValueError: there is no hook with such a name.
  """
  hooks = []
  for name in name_list or []:
    make = HOOKS.get(name.strip().lower())
    if make is None:
      raise ValueError(f"there is no training hook {name!r}; the hooks are {', '.join(HOOKS)}")
    hooks.append(make(**kwargs))
  return hooks


def get_logging_tensor_hook(
  every_n_iter: int = 100, tensors_to_log: tuple[str, ...] = TENSORS_TO_LOG, **_: object
) -> "tf.compat.v1.train.SessionRunHook":
  """Make a hook that writes tensors to the screen.

  Args:
    every_n_iter: steps from one line to the next.
    tensors_to_log: names of the tensors.

  Returns:
    A LoggingTensorHook.
  """
  from official_utils.logs import hooks

  return hooks.LoggingTensorHook(tensors_to_log, every_n_iter=every_n_iter)


def get_profiler_hook(model_dir: str, save_steps: int = 1000, **_: object) -> "tf.compat.v1.train.SessionRunHook":
  """Make a hook that writes the time of each operation to timeline-STEP.json, for chrome://tracing.

  Args:
    model_dir: the folder for the files.
    save_steps: steps from one file to the next; the first is written at the second step of a session.

  Returns:
    A ProfilerHook.
  """
  from official_utils.logs import hooks

  return hooks.ProfilerHook(model_dir, save_steps)


def get_examples_per_second_hook(
  batch_size: int,
  every_n_steps: int = 100,
  warm_steps: int = 5,
  metric_logger: BaseBenchmarkLogger | None = None,
  **_: object,
) -> "tf.compat.v1.train.SessionRunHook":
  """Make a hook that records the training speed in examples per second.

  Args:
    batch_size: examples in one step, on all devices together.
    every_n_steps: steps from one record to the next; one more is made at the end of a session.
    warm_steps: steps at the start that do not count.
    metric_logger: takes the numbers; None writes them to the screen.

  Returns:
    An ExamplesPerSecondHook.
  """
  from official_utils.logs import hooks

  return hooks.ExamplesPerSecondHook(
    batch_size, every_n_steps=every_n_steps, warm_steps=warm_steps, metric_logger=metric_logger
  )


def get_logging_metric_hook(
  tensors_to_log: tuple[str, ...] = TENSORS_TO_LOG,
  every_n_secs: float = 600,
  metric_logger: BaseBenchmarkLogger | None = None,
  **_: object,
) -> "tf.compat.v1.train.SessionRunHook":
  """Make a hook that records tensors as metrics of the benchmark logger.

  Args:
    tensors_to_log: names of the tensors.
    every_n_secs: seconds from one record to the next; the first is made at the first step.
    metric_logger: takes the numbers; None writes them to the screen.

  Returns:
    A LoggingMetricHook.
  """
  from official_utils.logs import metric_hook

  return metric_hook.LoggingMetricHook(tensors_to_log, every_n_secs=every_n_secs, metric_logger=metric_logger)


HOOKS: dict[str, Callable[..., "tf.compat.v1.train.SessionRunHook"]] = {
  "loggingtensorhook": get_logging_tensor_hook,
  "profilerhook": get_profiler_hook,
  "examplespersecondhook": get_examples_per_second_hook,
  "loggingmetrichook": get_logging_metric_hook,
}
