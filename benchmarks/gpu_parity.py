"""Holds a GPU's numbers against the original's, kernels against each other, and batches against their utterances."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import networks
from benchmarks import fixture_graph
from benchmarks.findings import Findings
from layers import cells, cudnn
from official_utils.lazy import tf
from official_utils.misc import distribution_utils
from settings import make_settings
from tests import fixture_files, small_network

# Models of the original, with the kernels that compute them here.
ORIGINALS = {
  "gru_l2_bias": ("native", "compiled"),
  "lstm_l3_bias": ("native", "cudnn"),
  "patched_rnn_l2_bias": ("native",),
}
NUM_BINS, NUM_CLASSES = 161, 29

# Full float32 with other kernels than the CPU's, whose own bounds are in tests/test_parity.py: sums are taken in other
# orders, and some convolutions go through transforms. On padded batches a value within rounding of a kink of relu6 changes
# the kernels of the convolutions by percents.
LOGITS_BOUND, TRAINING_LOGITS_BOUND, LOSS_BOUND, STEPS_BOUND = 1e-4, 2e-3, 1e-4, 2e-3
GRADIENT_BOUNDS = {"equal": 1e-2, "padded": 5e-2}
# Relative errors of the outputs and of all gradients together, with ten units in bfloat16's last place.
KERNEL_BOUNDS = {"float32": (1e-4, 1e-3), "bfloat16": (10 * 2**-8, 20 * 2**-8)}
PADDING_BOUND = 1e-3


class Sizes(NamedTuple):
  """The network and the batch on which kernels are compared."""

  hidden: int
  layers: int
  frames: int
  batch: int


def run(findings: Findings, devices: Sequence[str], is_small: bool) -> None:
  """Compare everything that can be compared on the devices.

  Args:
    findings: take the numbers.
    devices: one device, such as ["/gpu:0"].
    is_small: whether a little of everything will do.
  """
  # A GPU would round the factors of float32 products to 11 bits, as TensorFlow has it by default.
  tf.config.experimental.enable_tensor_float_32_execution(False)
  sizes = Sizes(4, 1, 30, 2) if is_small else Sizes(512, 2, 800, 16)
  originals = {"gru_l1_bias": ("native", "cudnn")} if is_small else ORIGINALS
  pairs = [(rnn_type, "compiled") for rnn_type in (["gru"] if is_small else cells.SUPPORTED_RNNS)]
  pairs += [(rnn_type, "cudnn") for rnn_type in cudnn.RNN_MODES]
  main_pairs = [pair for pair in (("gru", "compiled"), ("lstm", "cudnn")) if not is_small]
  for model, kernels in originals.items():
    for kernel in kernels:
      _attempt(findings, devices, kernel, f"original {model}, {kernel}", _compare_with_original, model, kernel)
  for dtype, chosen in (("float32", pairs), ("bfloat16", main_pairs)):
    for rnn_type, kernel in chosen:
      name = f"{rnn_type}, {kernel} against native, {dtype}"
      _attempt(findings, devices, kernel, name, _compare_kernels, rnn_type, kernel, dtype, sizes)
  for rnn_type, kernel in (("gru", "native"), *main_pairs):
    _attempt(findings, devices, kernel, f"padding, {rnn_type}, {kernel}", _compare_alone, rnn_type, kernel, sizes)


def _attempt(findings, devices, kernel, name, work, *arguments):
  """Do a comparison, unless its kernel needs a GPU and there is none."""
  if kernel == "cudnn" and devices[0].startswith("/cpu:"):
    findings.leave_out(name, "there is no GPU")
  else:
    findings.attempt(name, work, name, devices, *arguments)


def _compare_with_original(findings: Findings, name: str, devices: Sequence[str], model: str, kernel: str) -> None:
  """Hold logits, losses, gradients and three training steps against the original's numbers."""
  numbers, meta = fixture_files.load_model(model)
  network = small_network.of_original(meta["config"])
  graph = fixture_graph.FixtureGraph(numbers, meta, network, kernel, devices)
  for batch, gradient_bound in GRADIENT_BOUNDS.items():
    fetches = [graph.outputs["infer"], graph.outputs["train"], graph.loss_each, graph.gradients]
    infer, train, losses, gradients = graph.run(batch, fetches)
    for kind, logits, bound in (("infer", infer, LOGITS_BOUND), ("train", train, TRAINING_LOGITS_BOUND)):
      difference = np.abs(logits - numbers[f"{batch}/{kind}_logits"]).max()
      findings.add(f"{name}, {batch}: largest difference of logits, {kind}", difference, bound)
    error = _relative(losses, numbers[f"{batch}/ctc_loss_each"])
    findings.add(f"{name}, {batch}: relative error of losses", error, LOSS_BOUND)
    errors = {}
    for key, gradient in zip(graph.trainable, gradients, strict=True):
      expected, ours = fixture_files.sampled(numbers, f"{batch}/grad", key, gradient)
      errors[key] = _relative(ours, expected)
    worst = max(errors, key=lambda key: errors[key])
    findings.add(f"{name}, {batch}: worst gradient's relative error", errors[worst], gradient_bound, variable=worst)
  error = _relative(graph.train_three_steps(), numbers["steps_loss"])
  findings.add(f"{name}: relative error of the losses of three steps", error, STEPS_BOUND)


def _compare_kernels(
  findings: Findings, name: str, devices: Sequence[str], rnn_type: str, kernel: str, dtype: str, sizes: Sizes
) -> None:
  """Hold a kernel's logits and gradients against those of our own layers."""
  with tf.Graph().as_default():
    features, lengths = _make_batch(sizes)
    fetches = []
    for each in ("native", kernel):
      with tf.compat.v1.variable_scope("", reuse=each == kernel):
        logits = _add_network(features, lengths, devices, rnn_type, each, sizes, dtype, training=True)
      variables = tf.compat.v1.trainable_variables()
      fetches.append([logits, tf.gradients(tf.reduce_sum(tf.square(logits)), variables)])
    with _start(devices) as session:
      (expected, expected_gradients), (ours, gradients) = session.run(fetches)
  joined = [np.concatenate([each.ravel() for each in group]) for group in (gradients, expected_gradients)]
  for kind, error, bound in zip(
    ("logits", "gradients"), (_relative(ours, expected), _relative(*joined)), KERNEL_BOUNDS[dtype], strict=True
  ):
    findings.add(f"{name}: relative error of {kind}", error, bound)


def _compare_alone(
  findings: Findings, name: str, devices: Sequence[str], rnn_type: str, kernel: str, sizes: Sizes
) -> None:
  """Hold each utterance's logits in a batch against those of the utterance alone."""
  with tf.Graph().as_default():
    batch, batch_lengths = _make_batch(sizes)
    features = tf.compat.v1.placeholder_with_default(batch, [None, None, NUM_BINS, 1])
    lengths = tf.compat.v1.placeholder_with_default(batch_lengths, [None])
    logits = _add_network(features, lengths, devices, rnn_type, kernel, sizes, "float32", training=False)
    difference = 0.0
    with _start(devices) as session:
      together = session.run(logits)
      for row in range(0, sizes.batch, max(1, sizes.batch // 4)):
        feeds = {features: batch[row : row + 1, : batch_lengths[row]], lengths: batch_lengths[row : row + 1]}
        (alone,) = session.run(logits, feeds)
        difference = max(difference, np.abs(together[row, : len(alone)] - alone).max())
  findings.add(f"{name}: largest difference of logits alone and in a batch", difference, PADDING_BOUND)


def _make_batch(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
  """Make noise of lengths from half the longest on, with other noise in the padding."""
  lengths = np.linspace(sizes.frames, sizes.frames / 2, sizes.batch).astype(np.int32)
  features = np.random.default_rng(1).normal(size=[sizes.batch, sizes.frames, NUM_BINS, 1])
  return features.astype(np.float32), lengths


def _add_network(features, lengths, devices, rnn_type, kernel, sizes, dtype, training):
  """Add a network with masks to the graph; return its logits."""
  settings = {"rnn_type": rnn_type, "rnn_hidden_size": sizes.hidden, "rnn_hidden_layers": sizes.layers}
  network = make_settings(small_network.settings(**settings)).network
  execution = {"rnn_kernel": kernel, "devices": devices, "compute_dtype": dtype}
  tf.compat.v1.set_random_seed(1)
  forward = networks.make_network(network, NUM_CLASSES, **execution)
  return forward(tf.convert_to_tensor(features), tf.convert_to_tensor(lengths), training)[0]


def _start(devices: Sequence[str]) -> "tf.compat.v1.Session":
  """Start a session and set the variables."""
  session = tf.compat.v1.Session(config=distribution_utils.session_config(devices))
  session.run(tf.compat.v1.global_variables_initializer())
  return session


def _relative(values, expected) -> float:
  """Return the norm of the difference in units of the expected norm."""
  values, expected = np.ravel(values), np.ravel(expected)
  return float(np.linalg.norm(values - expected) / np.linalg.norm(expected))
