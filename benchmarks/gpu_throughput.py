"""Times whole training steps with their input on a GPU, in seconds of audio a second, beside peers on the same card."""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from absl import flags

import deep_speech
import speech_flags
from benchmarks import child, input_pipeline, train_step
from benchmarks.findings import Findings
from data import batches as batching
from data import dataset as speech_dataset
from official_utils import estimator as tf_estimator
from official_utils.flags import core as flags_core
from official_utils.lazy import tf

FRAME_RATE, WARM_UP = 100, 4
# TensorFlow rounds the factors of float32 products on a GPU to 11 bits unless it is told not to: "tf32".
FORMATS = {"fp32": "fp32", "tf32": "fp32", "bf16": "bf16"}
KERNELS = {"gru": ("compiled", "native"), "gru_reset_after": ("auto",), "lstm": ("auto",)}


class Sizes(NamedTuple):
  """What is trained.

  Attributes:
    hidden: the size of the cells.
    layers: recurrent layers.
    batch: utterances in a batch.
    seconds: the length of each.
    steps: training steps that are timed.
  """

  hidden: int = 800
  layers: int = 5
  batch: int = 128
  seconds: int = 15
  steps: int = 12


SMALL = Sizes(8, 1, 2, 1, 2)


class Setting(NamedTuple):
  """A way to train.

  Attributes:
    form: "ours", "original_form", "torch" or "input", which reads batches and trains nothing.
    rnn_type: the cell.
    number_format: a name of FORMATS.
    kernel: as for --rnn_kernel.
    cache: the folder of a feature cache, None to read audio.
  """

  form: str
  rnn_type: str = "gru"
  number_format: str = "tf32"
  kernel: str = "auto"
  cache: str | None = None

  @property
  def name(self) -> str:
    """Say in words what is timed."""
    words = ["throughput", self.form]
    if self.form != "input":
      words += [self.rnn_type, *([self.kernel] if self.form == "ours" else []), self.number_format]
    return ", ".join([*words, *(["from a cache"] if self.cache else [])])


def run(findings: Findings, is_small: bool, folder: str, torch_python: str) -> None:
  """Time ours in all number formats, and the peers.

  Args:
    findings: take the numbers.
    is_small: whether a little of everything will do.
    folder: where the corpus is written.
    torch_python: a Python with PyTorch; without one PyTorch is left out.
  """
  sizes = SMALL if is_small else Sizes()
  # A few files, each in several rows.
  manifest = input_pipeline.make_corpus(
    folder, ".wav", min(sizes.batch, 32), sizes.batch, (sizes.seconds, sizes.seconds)
  )
  for setting in list_settings(is_small, os.path.join(folder, "cache")):
    if setting.form == "torch" and not os.path.exists(torch_python):
      findings.leave_out(setting.name, f"{torch_python} does not exist")
    else:
      findings.attempt(setting.name, _report, setting, sizes, manifest, torch_python)


def list_settings(is_small: bool, cache: str) -> list[Setting]:
  """List what to time, the most telling first.

  Args:
    is_small: whether a little of everything will do.
    cache: the folder for a feature cache.
  """
  if is_small:
    return [Setting("ours", cache=cache), Setting("input"), Setting("original_form"), Setting("torch")]
  ours = [
    Setting("ours", rnn_type, number_format, kernel)
    for number_format in ("bf16", "tf32", "fp32")
    for rnn_type, kernels in KERNELS.items()
    # The slow one once: it shows what the compiled one gains.
    for kernel in (kernels if number_format == "tf32" else kernels[:1])
  ]
  peers = [
    Setting("torch", rnn_type, number_format)
    for number_format in ("bf16", "tf32")
    for rnn_type in ("gru_reset_after", "lstm")
  ]
  cached = [Setting(form, "gru", "bf16", "compiled", cache) for form in ("input", "ours")]
  return [*ours[:3], *peers[:2], *ours[3:], Setting("original_form"), *peers[2:], Setting("input"), *cached]


def _report(findings: Findings, setting: Setting, sizes: Sizes, manifest: str, torch_python: str) -> None:
  """Time a setting in a process of its own, which gives back the GPU's memory."""
  seconds = child.in_own_process(_time_steps, setting, sizes, manifest, torch_python)
  rate = sizes.batch * sizes.seconds * sizes.steps / seconds
  findings.add(setting.name, rate, unit="seconds of audio a second", step_seconds=round(seconds / sizes.steps, 4))


def _time_steps(setting: Setting, sizes: Sizes, manifest: str, torch_python: str) -> float:
  """Return the seconds of the steps after a few that do not count."""
  tf.config.experimental.enable_tensor_float_32_execution(setting.number_format == "tf32")
  options = parse_options(setting, sizes)
  if setting.form in ("ours", "input"):
    step = _build_with_input(setting.form, options, sizes, manifest)
  else:
    batch = train_step.make_batch(sizes.batch, sizes.seconds * FRAME_RATE, is_ragged=False)
    if setting.form == "torch":
      return _time_torch(setting, options, batch, torch_python, sizes.steps)
    step = train_step.build_original_form(options, batch).run
  return _time(step, sizes.steps)


def parse_options(setting: Setting, sizes: Sizes) -> flags.FlagValues:
  """Return the flags of deep_speech.py for a setting."""
  values = flags.FlagValues()
  speech_flags.define_deep_speech_flags(values)
  chosen = {
    "rnn_type": setting.rnn_type,
    "rnn_kernel": setting.kernel,
    "rnn_hidden_size": sizes.hidden,
    "rnn_hidden_layers": sizes.layers,
    "batch_size": sizes.batch,
    "dtype": FORMATS[setting.number_format],
  }
  arguments = [f"--{name}={value}" for name, value in chosen.items()]
  if setting.cache:
    arguments.append(f"--feature_cache_dir={setting.cache}")
  return flags_core.parse_flags(["deep_speech.py", *arguments], values)


def _build_with_input(form: str, options: flags.FlagValues, sizes: Sizes, manifest: str) -> Callable[[], object]:
  """Build the step of `deep_speech.model_fn` on batches of the manifest; or only what reads them."""
  dataset = deep_speech.generate_dataset(manifest, options)
  orders = [range(len(dataset.entries))] * (WARM_UP + sizes.steps + 1)
  with tf.Graph().as_default():
    tf.compat.v1.set_random_seed(1)
    batches = speech_dataset.batched_input_fn(dataset, batching.cut_all(orders, options.batch_size))
    iterator = tf.compat.v1.data.make_initializable_iterator(batches)
    features, labels = iterator.get_next()
    if form == "input":
      config, fetch = None, tf.shape(features["features"])
    else:
      estimator = deep_speech.make_estimator(options, dataset.speech_labels, train_step.first_device(options))
      config = estimator.config.session_config
      fetch = deep_speech.model_fn(features, labels, tf_estimator.ModeKeys.TRAIN, estimator.params).train_op
    session = tf.compat.v1.Session(config=config)
    session.run([iterator.initializer, tf.compat.v1.global_variables_initializer()])
  return lambda: session.run(fetch)


def _time_torch(
  setting: Setting, options: flags.FlagValues, batch: train_step.Batch, torch_python: str, steps: int
) -> float:
  """Time PyTorch, whose batch is on the device already."""
  device = "cuda" if train_step.first_device(options)[0].startswith("/gpu:") else "cpu"
  process = train_step.start_torch(torch_python, options, batch, setting.number_format, device)
  try:
    return _time(lambda: process.ask("step"), steps)
  finally:
    process.close()


def _time(step: Callable[[], object], steps: int) -> float:
  """Return the seconds of some steps, after those that do not count."""
  for _ in range(WARM_UP):
    step()
  start = time.perf_counter()
  for _ in range(steps):
    step()
  return time.perf_counter() - start
