"""Trains DeepSpeech2 cycle by cycle, evaluates it after each, and stops early.

python data/download.py                  # fetch LibriSpeech
python deep_speech.py --num_gpus=-1      # train and evaluate on all GPUs
"""

if __name__ == "__main__":
  from official_utils.misc import commands

  commands.begin()

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

import deep_speech_model
import inference
import speech_flags
from data import dataset as speech_dataset
from layers import ctc, cudnn, normalization
from official_utils import estimator as tf_estimator
from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from official_utils.logs import hooks_helper, input_wait, logger
from official_utils.misc import distribution_utils, files, model_helpers
from official_utils.misc.errors import UserError
from speech_flags import define_deep_speech_flags
from training import calls, checkpoints, evaluation, loss_scale

# From this share of the time on, waiting for input is worth a word.
WAIT_TO_SAY = 0.05


def compute_length_after_conv(
  max_time_steps: "tf.Tensor", ctc_time_steps: "tf.Tensor", input_length: "tf.Tensor"
) -> "tf.Tensor":
  """Compute the output steps of each utterance by the original's float32 rule of three.

  Used with --mask_padding=false only: it is often one step short; `compute_output_length` of the model is exact.

  Args:
    max_time_steps: frames of the padded batch, a scalar.
    ctc_time_steps: output steps of the padded batch, a scalar.
    input_length: real frames of each utterance, an integer tensor of any shape.

  Returns:
    An int32 tensor of the shape of `input_length`.
  """
  scaled = tf.cast(tf.multiply(input_length, ctc_time_steps), tf.float32)
  return tf.cast(tf.math.floordiv(scaled, tf.cast(max_time_steps, tf.float32)), tf.int32)


def ctc_loss(
  label_length: "tf.Tensor", ctc_input_length: "tf.Tensor", labels: "tf.Tensor", logits: "tf.Tensor"
) -> "tf.Tensor":
  """Compute the CTC loss of each utterance of a batch.

  Args:
    label_length: [batch, 1] int32, real labels.
    ctc_input_length: [batch, 1] int32, real output steps.
    labels: [batch, labels] int32.
    logits: [batch, time, classes] before the softmax; the last class is the blank.

  Returns:
    [batch, 1] float32.
  """
  lengths = [tf.cast(tf.squeeze(length, axis=1), tf.int32) for length in (ctc_input_length, label_length)]
  return tf.expand_dims(ctc.ctc_losses(tf.transpose(logits, [1, 0, 2]), lengths[0], labels, lengths[1]), axis=1)


def model_fn(
  features: Mapping[str, "tf.Tensor"], labels: "tf.Tensor | None", mode: str, params: Mapping[str, Any]
) -> "tf_estimator.EstimatorSpec":
  """Build the graph of one mode for the Estimator.

  Args:
    features: the dictionary that `data.dataset.input_fn` describes.
    labels: [batch, labels] int32, None when predicting.
    mode: one of the Estimator's ModeKeys.
    params: what `make_estimator` gives.

  Returns:
    An EstimatorSpec.
  """
  network = params["network"]
  model = deep_speech_model.make_network(network, len(params["speech_labels"]))
  model = model._replace(rnn_kernel=params["rnn_kernel"], compute_dtype=params["compute_dtype"])
  training = mode == tf_estimator.ModeKeys.TRAIN
  if training and network["mask_padding"]:
    step = tf.compat.v1.train.get_or_create_global_step()
    model = model._replace(norm_momentum=normalization.early_momentum(step))
  frames = features["features"]
  logits, lengths = model(frames, tf.squeeze(features["input_length"], axis=1), training)
  num_steps = tf.shape(logits)[0]
  logits = tf.transpose(logits, [1, 0, 2])
  if mode == tf_estimator.ModeKeys.PREDICT:
    if not network["mask_padding"]:
      # The original decodes padding too.
      lengths = tf.fill([tf.shape(logits)[0]], num_steps)
    return tf_estimator.EstimatorSpec(mode, predictions=_predictions(logits, lengths, features))
  if not network["mask_padding"]:
    lengths = compute_length_after_conv(tf.shape(frames)[1], num_steps, tf.squeeze(features["input_length"], axis=1))
  losses = ctc_loss(features["label_length"], tf.expand_dims(lengths, axis=1), labels, logits)
  loss = tf.reduce_sum(losses * features["weight"])
  if mode == tf_estimator.ModeKeys.EVAL:
    metrics = evaluation.error_metrics(logits, lengths, labels, features["label_length"], params["speech_labels"])
    return tf_estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
  input_wait.seconds_waited(features["features"])
  return tf_estimator.EstimatorSpec(
    mode, loss=loss, train_op=make_train_op(loss, params["learning_rate"], params["loss_scale"])
  )


def _predictions(logits, lengths, features) -> dict:
  """Collect what a caller may ask for; what is not asked for is not computed."""
  predictions = {
    "logits": logits,
    "probabilities": tf.nn.softmax(logits),
    "log_probs": tf.nn.log_softmax(logits),
    "length": lengths,
    **evaluation.greedy_predictions(logits),
  }
  if "index" in features:
    predictions["index"] = tf.squeeze(features["index"], axis=1)
  return predictions


def make_train_op(loss: "tf.Tensor", learning_rate: float, scale: float | str = 1) -> "tf.Operation":
  """Build one Adam step and the update of the moving statistics; name the tensors that hooks look for."""
  tf.identity(learning_rate, name="learning_rate")
  tf.identity(loss, name="cross_entropy")
  optimizer = tf.compat.v1.train.AdamOptimizer(learning_rate)
  # The moving statistics read the global step, so they are updated before it moves.
  with tf.control_dependencies(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)):
    return loss_scale.minimize(optimizer, loss, tf.compat.v1.train.get_or_create_global_step(), scale)


def generate_dataset(
  data_path: str, flags_obj: flags.FlagValues, is_training: bool = True
) -> speech_dataset.DeepSpeechDataset:
  """Read and check a manifest.

  Args:
    data_path: the manifest.
    flags_obj: the parsed flags.
    is_training: whether utterances that CTC cannot align are left out; what is scored keeps them.
  """
  audio_config = speech_dataset.AudioConfig(**speech_flags.feature_settings(flags_obj), normalize=True)
  config = speech_dataset.DatasetConfig(
    audio_config,
    data_path,
    flags_obj.vocabulary_file,
    flags_obj.sortagrad,
    flags_obj.on_unknown,
    is_training,
    flags_obj.feature_cache_dir,
  )
  return speech_dataset.DeepSpeechDataset(
    config, lambda frames: deep_speech_model.compute_output_length(frames, flags_obj.conv_layout)
  )


def make_estimator(
  flags_obj: flags.FlagValues, speech_labels: Sequence[str], devices: Sequence[str]
) -> "tf_estimator.Estimator":
  """Make the Estimator around `model_fn`.

  Args:
    flags_obj: the parsed flags.
    speech_labels: the labels in order, the blank last.
    devices: where each replica computes.
  """
  config = tf_estimator.RunConfig(
    tf_random_seed=flags_obj.seed,
    session_config=distribution_utils.session_config(
      devices, flags_obj.inter_op_parallelism_threads, flags_obj.intra_op_parallelism_threads
    ),
    train_distribute=distribution_utils.get_distribution_strategy(devices, flags_obj.all_reduce_alg),
  )
  params = {
    "network": speech_flags.network_settings(flags_obj),
    "speech_labels": list(speech_labels),
    "learning_rate": flags_obj.learning_rate,
    "rnn_kernel": cudnn.choose_kernel(flags_obj.rnn_kernel, flags_obj.rnn_type, devices),
    "compute_dtype": flags_core.get_tf_dtype(flags_obj).name,
    "loss_scale": flags_core.get_loss_scale(flags_obj),
  }
  return tf_estimator.Estimator(model_fn=model_fn, model_dir=flags_obj.model_dir, config=config, params=params)


def _restore_errors() -> tuple[type[Exception], ...]:
  """List what TensorFlow raises where a session cannot restore a checkpoint."""
  return tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.OutOfRangeError


class _Run:
  """One run of the program: its data sets, its model_dir and its estimator."""

  def __init__(self, flags_obj: flags.FlagValues, devices: Sequence[str], benchmark_logger):
    self._flags = flags_obj
    self._devices = devices
    self._benchmark_logger = benchmark_logger
    distribution_utils.per_device_batch_size(flags_obj.batch_size, len(devices))
    paths = {"train": flags_obj.train_data_dir, "eval": flags_obj.eval_data_dir, "test": flags_obj.test_data_dir}
    self._sets = {name: generate_dataset(path, flags_obj, name == "train") for name, path in paths.items() if path}
    for name, each in self._sets.items():
      print(f"{name}: {len(each.entries)} utterances of {paths[name]}, {len(each.left_out)} left out", flush=True)
    self._batching = speech_dataset.Batching(
      self._sets["train"].seconds, flags_obj.batch_size, flags_obj.batch_seconds, flags_obj.sortagrad, flags_obj.seed
    )
    self._estimator = make_estimator(flags_obj, self._sets["train"].speech_labels, devices)
    self._model_dir = checkpoints.ModelDir(flags_obj.model_dir)
    self._prepare_folders()

  def _prepare_folders(self) -> None:
    """Make model_dir and export_dir, cleaned if that is wanted, or check what they hold."""
    options, labels, exports = self._flags, self._sets["train"].speech_labels, speech_flags.export_dir(self._flags)
    if options.keep_exports and not files.is_within(exports, options.model_dir):
      files.check_writable(exports, "--export_dir")
    # Not before all else was found good: what is removed is gone.
    if options.clean:
      if os.path.exists(os.path.join(options.model_dir, checkpoints.LOCK_FILE)):
        self._model_dir.lock()
      model_helpers.clean_model_dir(options.model_dir, checkpoints.MARKER_FILES)
    self._model_dir.prepare(
      speech_flags.flag_values(options),
      speech_flags.model_settings(options),
      labels,
      lambda: _variable_shapes(options, len(labels)),
    )
    if options.keep_exports:
      files.check_writable(exports, "--export_dir")

  def train_until_done(self) -> str:
    """Train and evaluate in turns; return why that ended."""
    num_epochs, cycle = self._flags.train_epochs, self._flags.epochs_between_evals
    epoch = self._model_dir.completed_epochs(self._batching.num_batches(0))
    row = None
    if epoch:
      print(f"found {epoch} epochs done in {self._flags.model_dir}", flush=True)
      row = self._model_dir.evaluation_after(epoch)
      if row is None and self._model_dir.ends_epoch(epoch):
        row = self._evaluate_cycle(epoch, {})
    threshold = speech_flags.wer_threshold(self._flags)
    while row is None or not model_helpers.past_stop_threshold(threshold, row[evaluation.WER_KEY]):
      if epoch >= num_epochs:
        return f"{epoch} epochs are done, --train_epochs={num_epochs}"
      # A cycle ends at a whole multiple, also after a run that stopped elsewhere.
      count = min(cycle - epoch % cycle, num_epochs - epoch)
      epochs = range(epoch, epoch + count)
      self._model_dir.plan_epochs(epoch, [self._batching.num_batches(index) for index in epochs])
      training_results = self._train_cycle(epochs)
      epoch += count
      row = self._evaluate_cycle(epoch, training_results)
    return f"WER {row[evaluation.WER_KEY]:.4f} after epoch {epoch} is at or below the threshold {threshold:g}"

  def score_test_set(self) -> dict:
    """Score the set of --test_data_dir, print that and --show_samples; return {} where there is none."""
    if "test" not in self._sets:
      return {}
    results, texts = self._evaluate("test")
    print(f"test: WER {results[evaluation.WER_KEY]:.4f}  CER {results[evaluation.CER_KEY]:.4f}", flush=True)
    evaluation.print_samples(self._sets["test"].entries, texts, self._flags.show_samples)
    return results

  def _evaluate(self, name: str) -> tuple[dict, list[str]]:
    """Transcribe and score the "eval" or the "test" set with the newest checkpoint."""
    return _score(self._flags, self._estimator, self._sets[name], max(self._sets["train"].seconds), len(self._devices))

  def _train_cycle(self, epochs: Sequence[int]) -> dict:
    """Train the epochs of these numbers in one call; return mean loss and speed."""
    from training import progress

    options, train_set, num_replicas = self._flags, self._sets["train"], len(self._devices)
    batches = self._batching.of_epochs(epochs)
    follower = progress.ProgressHook(num_replicas, f"to epoch {epochs[-1] + 1}", len(batches))
    hooks = hooks_helper.get_train_hooks(
      options.hooks, batch_size=options.batch_size, model_dir=options.model_dir, metric_logger=self._benchmark_logger
    )
    saver = progress.SaverHook(options.model_dir, self._estimator.config.save_checkpoints_secs)
    try:
      with calls.one_graph(train_set):
        input_fn = calls.bind_input_fn(train_set, batches, num_replicas, options.num_parallel_calls)
        self._estimator.train(input_fn, [*hooks, follower, saver])
    except _restore_errors() as error:
      checkpoint = self._estimator.latest_checkpoint()
      if follower.steps or not checkpoint:
        raise
      # It was being restored.
      raise inference.damaged_checkpoint(checkpoint) from error
    finally:
      follower.clear_line()
    if not train_set.has_feasible:
      raise UserError(f"{options.train_data_dir}: no utterance is long enough for its transcript; check the audio")
    return {
      "loss": follower.mean_loss,
      "train_seconds": follower.seconds,
      "input_wait": follower.input_wait,
      "utterances_per_second": len(train_set.entries) * len(epochs) / follower.seconds,
    }

  def _evaluate_cycle(self, epoch: int, training_results: Mapping[str, float]) -> dict:
    """Evaluate after a cycle, keep the row and print a line."""
    start = time.perf_counter()
    results, _ = self._evaluate("eval")
    # Before the row is written: what a kill leaves undone is done again where there is no row.
    self._export(results)
    row = {"epoch": epoch, **training_results, **results, "eval_seconds": time.perf_counter() - start}
    self._benchmark_logger.log_evaluation_result(
      {key: row[key] for key in (evaluation.WER_KEY, evaluation.CER_KEY, "global_step")}
    )
    self._model_dir.append_evaluation(row)
    line = f"epoch {epoch}/{self._flags.train_epochs}"
    if training_results:
      line += f"  loss {row['loss']:.3f}  {row['utterances_per_second']:.1f} utterances/s"
      if row["input_wait"] >= WAIT_TO_SAY:
        line += f" ({row['input_wait']:.0%} of the time waiting for input)"
    print(f"{line}  WER {row[evaluation.WER_KEY]:.4f}  CER {row[evaluation.CER_KEY]:.4f}", flush=True)
    return row

  def _export(self, results: Mapping[str, float]) -> None:
    """Export the newest checkpoint, if exports are wanted."""
    options = self._flags
    if options.keep_exports:
      inference.publish(
        self._estimator.latest_checkpoint(),
        speech_flags.model_settings(options),
        self._sets["train"].speech_labels,
        speech_flags.export_dir(options),
        results["global_step"],
        self._model_dir.is_best(results),
        options.keep_exports,
      )


def _score(flags_obj, estimator, chosen, longest: float, num_devices: int, checkpoint: str | None = None):
  """Transcribe and score a set in batches as large as the largest that a device is given in training.

  Args:
    flags_obj: the parsed flags.
    estimator: the trained estimator; one device predicts.
    chosen: the set.
    longest: seconds of the longest utterance of training.
    num_devices: how many devices train.
    checkpoint: None for the newest.

  Returns:
    The results and the texts.
  """
  size, largest = distribution_utils.per_device_batch_size(flags_obj.batch_size, num_devices), None
  # With padding that counts, the results depend on what shares a batch.
  if flags_obj.mask_padding:
    largest = max(longest, (flags_obj.batch_seconds or flags_obj.batch_size * longest) / num_devices)
  batches = speech_dataset.Batching(chosen.seconds, size, largest).of_epochs([0])
  with calls.one_graph(chosen):
    input_fn = calls.bind_input_fn(chosen, batches, 1, flags_obj.num_parallel_calls)
    return evaluation.evaluate_model(estimator, chosen.speech_labels, chosen.entries, input_fn, checkpoint)


def _variable_shapes(flags_obj, num_classes: int) -> dict[str, list[int]]:
  """List the variables that a checkpoint of these flags holds, with their shapes."""
  shapes = inference.variable_shapes(speech_flags.model_settings(flags_obj), num_classes)
  return shapes | loss_scale.variable_shapes(flags_core.get_loss_scale(flags_obj))


def run_deep_speech(flags_obj: flags.FlagValues, devices: Sequence[str] | None = None) -> dict:
  """Train with evaluation after each cycle, then score the test set.

  Args:
    flags_obj: the parsed flags.
    devices: one a replica, such as ["/gpu:0", "/gpu:1"]; None takes what --num_gpus asks for.

  Returns:
    The results of the test set, or {} without one.
  """
  speech_flags.check_flags(flags_obj)
  devices = devices or distribution_utils.list_devices(flags_obj.num_gpus)
  with logger.benchmark_context(flags_obj) as benchmark_logger:
    run = _Run(flags_obj, devices, benchmark_logger)
    benchmark_logger.log_run_info(
      "deep_speech", flags_obj.train_data_dir, speech_flags.flag_values(flags_obj), flags_obj.benchmark_test_id
    )
    print(f"stopped: {run.train_until_done()}", flush=True)
    return run.score_test_set()


def evaluate_checkpoint(flags_obj: flags.FlagValues, devices: Sequence[str] | None = None) -> list[dict]:
  """Score a checkpoint on manifests and print a line for each.

  Args:
    flags_obj: the parsed flags.
    devices: where to compute; None takes what --num_gpus asks for. One is enough.

  Returns:
    The results of each manifest.
  """
  checkpoint, labels = checkpoints.find_checkpoint(flags_obj)
  devices = (devices or distribution_utils.list_devices(flags_obj.num_gpus))[:1]
  rows = []
  # All are checked before the first is scored.
  sets = {path: generate_dataset(path, flags_obj, False) for path in speech_flags.manifests_to_score(flags_obj)}
  for path, chosen in sets.items():
    estimator = make_estimator(flags_obj, labels, devices)
    try:
      results, texts = _score(flags_obj, estimator, chosen, max(chosen.seconds), 1, checkpoint)
    except _restore_errors() as error:
      raise inference.damaged_checkpoint(checkpoint) from error
    print(
      f"{path}: WER {results[evaluation.WER_KEY]:.4f}  CER {results[evaluation.CER_KEY]:.4f}  "
      f"{len(texts)} utterances, {checkpoint}",
      flush=True,
    )
    evaluation.print_samples(chosen.entries, texts, flags_obj.show_samples)
    rows.append({"manifest": path, **results})
  return rows


def export_checkpoint(flags_obj: flags.FlagValues) -> list[str]:
  """Export a checkpoint, print the folders and return them."""
  checkpoint, labels = checkpoints.find_checkpoint(flags_obj)
  model_dir = checkpoints.ModelDir(flags_obj.model_dir)
  step = model_dir.global_step(checkpoint)
  folders = inference.publish(
    checkpoint,
    speech_flags.model_settings(flags_obj),
    labels,
    speech_flags.export_dir(flags_obj),
    step,
    model_dir.best_step() in (step, None),
    flags_obj.keep_exports if flags_obj["keep_exports"].present else None,
  )
  for folder in folders:
    print(f"exported {checkpoint} to {folder}", flush=True)
  return folders


_MODES = {"train": run_deep_speech, "evaluate": evaluate_checkpoint, "export": export_checkpoint}


def main(_: list[str]) -> None:
  """Run with the flags of the command line."""
  _MODES[flags.FLAGS.mode](flags.FLAGS)


if __name__ == "__main__":
  define_deep_speech_flags()
  flags_core.run(main, __doc__)
