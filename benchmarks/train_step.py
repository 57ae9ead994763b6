"""Times a whole training step of the network, against the original's form and against PyTorch.

A step is the work of deep_speech.py on one batch: forward, CTC loss, backward, Adam, moving averages. The flags of
deep_speech.py that shape the network are accepted too and override --shape.
"""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import copy
import dataclasses
import functools
import json
import multiprocessing
import resource
import statistics
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import flags

import deep_speech
import speech_flags
from benchmarks import child, floor, original_form, step_profile, timing
from official_utils import estimator as tf_estimator
from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from official_utils.misc import distribution_utils
from official_utils.misc.errors import UserError

SHAPES = {
  "A": {"rnn_type": "gru", "rnn_hidden_layers": 5, "rnn_hidden_size": 800, "batch_size": 8, "frames": 400},
  "B": {"rnn_type": "gru", "rnn_hidden_layers": 3, "rnn_hidden_size": 256, "batch_size": 16, "frames": 800},
  # What `make demo` trains, with utterances of its median length.
  "demo": {
    "rnn_type": "gru",
    "rnn_hidden_layers": 2,
    "rnn_hidden_size": 256,
    "conv_layout": "paper",
    "stride_ms": 20,
    "batch_size": 8,
    "frames": 110,
  },
}
FOLDER = os.path.dirname(os.path.abspath(__file__))
LABELS = " abcdefghijklmnopqrstuvwxyz'-"
NUM_BINS = 161
# Letters and frames per second.
_LETTER_RATE, _FRAME_RATE = 15, 100


class Batch(NamedTuple):
  """The input of a step, as `data.dataset.input_fn` makes it."""

  features: dict[str, np.ndarray]
  labels: np.ndarray


class Step(NamedTuple):
  """A training step in a session."""

  session: "tf.compat.v1.Session"
  train_op: "tf.Operation"
  feeds: dict

  def run(self) -> None:
    """Do it once."""
    self.session.run(self.train_op, self.feeds)


def apply_shape(options: flags.FlagValues) -> None:
  """Set the values of --shape, except where a flag is given."""
  for name, value in SHAPES[options.shape].items():
    if not options[name].present:
      options[name].value = value


def make_batch(batch_size: int, num_frames: int, is_ragged: bool) -> Batch:
  """Make noise, with as many labels as speech of that length would have.

  Args:
    batch_size: utterances.
    num_frames: frames of the longest utterance.
    is_ragged: whether the others are shorter, down to half of that.
  """
  generator = np.random.default_rng(1)
  lengths = np.linspace(num_frames, num_frames / 2 if is_ragged else num_frames, batch_size).astype(np.int32)
  counts = np.maximum(1, lengths * _LETTER_RATE // _FRAME_RATE)
  spectrograms = generator.normal(size=[batch_size, num_frames, NUM_BINS, 1]).astype(np.float32)
  labels = generator.integers(0, len(LABELS) - 1, [batch_size, counts.max()]).astype(np.int32)
  for row, length, count in zip(range(batch_size), lengths, counts, strict=True):
    spectrograms[row, length:] = 0
    labels[row, count:] = 0
  features = {
    "features": spectrograms,
    "input_length": lengths[:, np.newaxis],
    "label_length": counts[:, np.newaxis],
    "weight": np.full([batch_size, 1], 1 / batch_size, np.float32),
    "index": np.arange(batch_size, dtype=np.int32)[:, np.newaxis],
  }
  return Batch(features, labels)


def build_ours(options: flags.FlagValues, batch: Batch, dtype: str | None = None) -> Step:
  """Build the step of `deep_speech.model_fn` with everything that the flags set, or in another number format."""
  if dtype:
    options = copy.deepcopy(options)
    options.dtype = dtype
  estimator = deep_speech.make_estimator(options, LABELS, first_device(options))

  def add_train_op(features, labels):
    mode = tf_estimator.ModeKeys.TRAIN
    return deep_speech.model_fn(features, labels, mode, estimator.params).train_op

  return _build(add_train_op, batch, estimator.config.session_config)


def build_original_form(options: flags.FlagValues, batch: Batch) -> Step:
  """Build the step of the original's form."""
  settings = _network_settings(options)
  if settings["rnn_type"] not in original_form.STEPS or settings["conv_layout"] != "official":
    raise UserError(
      f"--peer=original_form has no --rnn_type={settings['rnn_type']} with --conv_layout={settings['conv_layout']}; "
      f"give one of {', '.join(original_form.STEPS)} and official, or another --peer"
    )

  def add_train_op(features, labels):
    logits = original_form.network(features["features"], settings, len(LABELS), training=True)
    lengths = [tf.squeeze(features[name], 1) for name in ("input_length", "label_length")]
    losses = original_form.ctc_losses(logits, tf.shape(features["features"])[1], lengths[0], labels, lengths[1])
    return original_form.train_op(tf.reduce_mean(losses), options.learning_rate)

  return _build(add_train_op, batch, _session_config(options))


def start_torch(
  torch_python: str, options: flags.FlagValues, batch: Batch, number_format: str, device: str = "cpu"
) -> child.Child:
  """Start PyTorch in its own process, which trains one step when it is asked.

  Args:
    torch_python: a Python with PyTorch.
    options: the flags of deep_speech.py.
    batch: its lengths shape PyTorch's own noise.
    number_format: see `torch_network.py`.
    device: PyTorch's name of the device that computes.
  """
  settings = _network_settings(options) | {
    "num_bins": NUM_BINS,
    "num_classes": len(LABELS),
    "learning_rate": options.learning_rate,
    "threads": options.intra_op_parallelism_threads,
    "lengths": batch.features["input_length"][:, 0].tolist(),
    "label_counts": batch.features["label_length"][:, 0].tolist(),
    "device": device,
    "number_format": number_format,
  }
  return child.Child([torch_python, os.path.join(FOLDER, "torch_network.py"), json.dumps(settings)])


def _step_of_torch(options: flags.FlagValues, batch: Batch, number_format: str) -> Callable[[], object]:
  """Start PyTorch; return a function that makes it train one step."""
  process = start_torch(options.torch_python, options, batch, number_format)
  return lambda: process.ask("step")


BUILDERS = {timing.OURS: build_ours, "original_form": build_original_form}
FORMS = {name: lambda *arguments, build=build: build(*arguments).run for name, build in BUILDERS.items()}
FORMS["fp32"] = lambda *arguments: build_ours(*arguments, dtype="fp32").run
TORCH_PEERS = {"torch": "fp32", "torch_autocast": "bf16", "torch_bf16": "bf16_weights"}
FORMS |= {name: functools.partial(_step_of_torch, number_format=value) for name, value in TORCH_PEERS.items()}


def _build(add_train_op: Callable, batch: Batch, config) -> Step:
  """Build a graph that does not know the batch's sizes, as in training, and set its variables."""
  with tf.Graph().as_default():
    tf.compat.v1.set_random_seed(1)
    features = {
      name: tf.compat.v1.placeholder(array.dtype, [None, None, NUM_BINS, 1] if name == "features" else [None, 1])
      for name, array in batch.features.items()
    }
    labels = tf.compat.v1.placeholder(batch.labels.dtype, [None, None])
    train_op = add_train_op(features, labels)
    session = tf.compat.v1.Session(config=config)
    session.run(tf.compat.v1.global_variables_initializer())
  feeds = {features[name]: array for name, array in batch.features.items()}
  return Step(session, train_op, feeds | {labels: batch.labels})


def _network_settings(options) -> dict:
  """Return the network's settings by name."""
  return dataclasses.asdict(speech_flags.model_settings(options).network)


def first_device(options: flags.FlagValues) -> list[str]:
  """Return the first device, as a list."""
  return distribution_utils.list_devices(options.num_gpus)[:1]


def _session_config(options):
  """Give the peers the same threads and device as ours."""
  threads = (options.inter_op_parallelism_threads, options.intra_op_parallelism_threads)
  return distribution_utils.session_config(first_device(options), *threads)


def define_step_flags() -> None:
  """Define the flags for the shape and for what to show."""
  speech_flags.define_deep_speech_flags()
  flags.DEFINE_enum("shape", "A", list(SHAPES), "The network and the batch; flags given for them override it.")
  flags.DEFINE_integer("frames", 400, "The number of frames in the longest utterance.", lower_bound=1)
  flags.DEFINE_boolean("ragged", False, "Whether the others are shorter, evenly spread down to half of that.")
  flags.DEFINE_enum("profile", None, list(BUILDERS), "Instead, show where the step of this form spends its time.")
  flags.DEFINE_boolean("memory", False, "Instead, show the memory that steps take, compared with the original's form.")
  child.define_torch_flag()
  timing.define_timing_flags(["original_form", "fp32", *TORCH_PEERS])


def describe(options: flags.FlagValues) -> str:
  """Describe the measurement in words."""
  lengths = "lengths from half of that on" if options.ragged else "all of one length"
  given = [name for name in _network_settings(options) if options[name].present and name not in SHAPES["A"]]
  sizes = f"{options.rnn_type} {options.rnn_hidden_layers} x {options.rnn_hidden_size}, batch {options.batch_size}"
  if options.dtype != "fp32":
    sizes += f", ours in {options.dtype}"
  return ", ".join([sizes, f"{options.frames} frames", lengths, *(options[name].serialize() for name in given)])


def show_profile(options: flags.FlagValues, batch: Batch) -> None:
  """Print where the step of a form spends its time."""
  step = BUILDERS[options.profile](options, batch)
  seconds = timing.measure({options.profile: step.run}, options.runs)[options.profile]
  nodes = step_profile.trace(*step)
  print(f"{options.profile}: {describe(options)}: {statistics.median(seconds):.3f} s a step without the trace")
  step_profile.show(nodes)


def show_memory(options: flags.FlagValues) -> None:
  """Print how much memory the first steps of ours and of the original's form add to the program's own."""
  if options["peer"].present and options.peer != ["original_form"]:
    raise UserError(
      f"--peer={','.join(options.peer)} cannot be measured with --memory; give original_form or leave it out"
    )
  peaks = {}
  for name in BUILDERS:
    # A process's high-water mark never falls, so each form needs its own process.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
      peaks[name] = [pool.apply(_memory_of_steps, [name, sys.argv])]
  timing.report("train_step_memory", describe(options), peaks, unit="MiB", gain="small")


def _memory_of_steps(name: str, arguments: list[str]) -> float:
  """Run three steps of a form; return by how many MiB they raise the process's high-water mark."""
  define_step_flags()
  flags.FLAGS(arguments)
  options = flags.FLAGS
  apply_shape(options)
  step = BUILDERS[name](options, make_batch(options.batch_size, options.frames, options.ragged))
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  for _ in range(3):
    step.run()
  # Linux counts in KiB.
  return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main(_: list[str]) -> None:
  """Time the chosen forms in turn, together with the machine's rate of matrix products."""
  options = flags.FLAGS
  apply_shape(options)
  speech_flags.check_flags(options)
  child.check_torch(options)
  batch = make_batch(options.batch_size, options.frames, options.ragged)
  if options.profile:
    show_profile(options, batch)
    return
  if options.memory:
    show_memory(options)
    return
  forms = {name: make(options, batch) for name, make in timing.choose(FORMS, options.peer).items()}
  dtype = flags_core.get_tf_dtype(options)
  config = _session_config(options)
  limits = {
    "product": floor.matrix_product(config, dtype.name),
    "memory": floor.memory_copy(config),
    "cache": floor.cache_read(config),
  }
  seconds = timing.measure(forms | {name: compute for name, (compute, _) in limits.items()}, options.runs)
  rates = {name: size / statistics.median(seconds.pop(name)) for name, (_, size) in limits.items()}
  sizes = _network_settings(options), NUM_BINS, len(LABELS), batch.features["input_length"][:, 0].tolist()
  operations, moved = floor.count_operations(*sizes), floor.count_bytes(*sizes, dtype.size)
  details = floor.report(operations, moved, rates, statistics.median(seconds[timing.OURS]))
  timing.report("train_step", describe(options), seconds, **details)


if __name__ == "__main__":
  define_step_flags()
  flags_core.run(main, __doc__)
