"""Trains DeepSpeech2 in cycles, evaluates it after each, and stops once it is good enough.

python data/download.py                  # fetch LibriSpeech
python deep_speech.py --num_gpus=-1      # train and evaluate on all GPUs

Read from the end: `run_deep_speech`, `evaluate_checkpoint` and `export_checkpoint` put the parts together.
"""

if __name__ == "__main__":
  from official_utils.misc import commands

  commands.begin()

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

import decoder
import exports
import inference
import networks
import speech_flags
from data import dataset as speech_dataset
from data import vocabulary
from data.manifest import Entry
from layers import ctc
from official_utils import estimator as tf_estimator
from official_utils.flags import core as flags_core
from official_utils.lazy import tf
from official_utils.logs import input_wait, logger
from official_utils.misc import distribution_utils
from settings import ModelSettings
from speech_flags import define_deep_speech_flags, recipes
from training import actions, calls, evaluation, model_dir
from training.optimizer import Optimizer
from training.run import Options, Run, score_sets

_make_decoder = functools.partial(decoder.GreedyDecoder, wants=decoder.CLASSES)


def compute_length_after_conv(
  max_time_steps: "tf.Tensor", ctc_time_steps: "tf.Tensor", input_length: "tf.Tensor"
) -> "tf.Tensor":
  """Compute the output steps of each utterance by proportion in float32, as the original does.

  Used only with --mask_padding=false: it is often one step short; `compute_output_length` of the model is exact.

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
  return tf.expand_dims(ctc.ctc_losses(logits, lengths[0], labels, lengths[1]), axis=1)


def model_fn(
  features: Mapping[str, "tf.Tensor"], labels: "tf.Tensor | None", mode: str, params: Mapping[str, Any]
) -> "tf_estimator.EstimatorSpec":
  """Build the graph of one mode for the Estimator.

  Args:
    features: as `data.dataset.batched_input_fn` describes them; without "weight" all utterances count equally.
    labels: [batch, labels] int32, None when predicting; where the features have "labels", predictions include losses.
    mode: one of the Estimator's ModeKeys.
    params: those of `make_estimator`; or only num_classes, as in the original, with the rest taken from the flags of
      the command line.
  """
  if "network" not in params:
    known = {name: params[name] for name in ("speech_labels", "settings", "num_classes") if name in params}
    params = {**_model_params(flags.FLAGS, **known), **params}
  mask_padding, input_lengths = params["settings"].network.mask_padding, tf.squeeze(features["input_length"], axis=1)
  logits, lengths = params["network"](features["features"], input_lengths, mode == tf_estimator.ModeKeys.TRAIN)
  num_steps = tf.shape(logits)[1]
  if not mask_padding:
    lengths = compute_length_after_conv(tf.shape(features["features"])[1], num_steps, input_lengths)
  labels, losses = features.get("labels", labels), None
  if labels is not None:
    losses = ctc_loss(features["label_length"], tf.expand_dims(lengths, axis=1), labels, logits)
  if mode == tf_estimator.ModeKeys.PREDICT:
    # The original decodes padding too.
    lengths = lengths if mask_padding else tf.fill(tf.shape(logits)[:1], num_steps)
    predictions = evaluation.predictions(logits, lengths, features, losses)
    return tf_estimator.EstimatorSpec(mode, predictions=predictions, scaffold=evaluation.scaffold())
  loss = tf.reduce_sum(losses * features["weight"]) if "weight" in features else tf.reduce_mean(losses)
  if mode == tf_estimator.ModeKeys.EVAL:
    said = labels, tf.squeeze(features["label_length"], axis=1)
    metrics = evaluation.error_metrics(logits, lengths, *said, _make_decoder(params["speech_labels"]))
    return tf_estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics, scaffold=evaluation.scaffold())
  input_wait.seconds_waited(features["features"])
  return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=params["optimizer"].minimize(loss))


def generate_dataset(
  data_dir: str,
  flags_obj: flags.FlagValues = flags.FLAGS,
  is_training: bool = True,
  settings: ModelSettings | None = None,
  vocabulary_file: str | None = None,
) -> speech_dataset.DeepSpeechDataset:
  """Read and check a manifest.

  Args:
    data_dir: the manifest; the name is the original's.
    flags_obj: the parsed flags.
    is_training: whether to augment utterances and leave out what is beyond a limit or what CTC cannot align.
    settings: the model's; None takes them from the flags.
    vocabulary_file: the vocabulary; None takes it from the flags.
  """
  settings = settings or speech_flags.model_settings(flags_obj)
  config = speech_dataset.DatasetConfig(
    settings.features,
    data_dir,
    vocabulary_file or flags_obj.vocabulary_file,
    leave_out_infeasible=is_training,
    statistics=settings.statistics,
    **speech_flags.dataset_options(flags_obj, is_training),
  )
  return speech_dataset.DeepSpeechDataset(config, networks.output_length(settings.network))


def make_estimator(
  flags_obj: flags.FlagValues,
  speech_labels: Sequence[str],
  devices: Sequence[str],
  settings: ModelSettings | None = None,
  count_steps: Callable[[], int] | None = None,
) -> "tf_estimator.Estimator":
  """Make the Estimator around `model_fn`.

  Args:
    flags_obj: the parsed flags.
    speech_labels: the labels in order, the blank last.
    devices: the device of each replica.
    settings: the model's; None takes them from the flags.
    count_steps: counts the batches of the run, for the learning rate; None if it is not to be trained.
  """
  threads = flags_obj.inter_op_parallelism_threads, flags_obj.intra_op_parallelism_threads
  config = calls.run_config(
    flags_obj.average_checkpoints,
    tf_random_seed=flags_obj.seed,
    session_config=distribution_utils.session_config(devices, *threads),
    train_distribute=distribution_utils.get_distribution_strategy(devices, flags_obj.all_reduce_alg),
  )
  params = _model_params(flags_obj, speech_labels, devices, settings, count_steps=count_steps)
  return tf_estimator.Estimator(model_fn=model_fn, model_dir=flags_obj.model_dir, config=config, params=params)


def _model_params(
  flags_obj: flags.FlagValues,
  speech_labels: Sequence[str] | None = None,
  devices: Sequence[str] | None = None,
  settings: ModelSettings | None = None,
  num_classes: int | None = None,
  count_steps: Callable[[], int] | None = None,
) -> dict[str, Any]:
  """Gather the params of `model_fn`; what is not given follows from the flags."""
  speech_labels = list(speech_labels or vocabulary.read_vocabulary(flags_obj.vocabulary_file))
  settings = settings or speech_flags.model_settings(flags_obj)
  devices = devices or distribution_utils.list_devices(flags_obj.num_gpus)
  dtype = flags_core.get_tf_dtype(flags_obj, devices).name
  execution = {"rnn_kernel": flags_obj.rnn_kernel, "devices": devices, "compute_dtype": dtype}
  network = networks.make_network(settings.network, num_classes or len(speech_labels), **execution)
  optimizer = Optimizer(**speech_flags.plain_values(flags_obj, Optimizer)).of_run(count_steps)
  return {"settings": settings, "network": network, "speech_labels": speech_labels, "optimizer": optimizer}


def evaluate_model(
  estimator: "tf_estimator.Estimator", speech_labels: Sequence[str], entries: Sequence[Entry], input_fn_eval: Callable
) -> dict[str, float]:
  """Transcribe an evaluation set greedily and count the errors.

  Args:
    estimator: the trained estimator.
    speech_labels: the labels in order, the blank last.
    entries: the set's entries; their transcripts are the references.
    input_fn_eval: yields the set's batches.

  Returns:
    The corpus rates WER and CER, the original's means of the utterances' rates (mean_WER, mean_CER), and global_step.
  """
  return evaluation.evaluate(estimator, _make_decoder(speech_labels), entries, input_fn_eval).results()


def run_deep_speech(flags_obj: flags.FlagValues = flags.FLAGS, devices: Sequence[str] | None = None) -> dict:
  """Train with evaluation after each cycle, then score the test set; return its results, {} if there is none.

  Args:
    flags_obj: the parsed flags.
    devices: one per replica, such as ["/gpu:0", "/gpu:1"]; None takes the devices that --num_gpus asks for.
  """
  speech_flags.check_flags(flags_obj)
  devices = speech_flags.choose_devices(flags_obj, devices)
  settings = speech_flags.model_settings(flags_obj)
  with logger.benchmark_context(flags_obj) as benchmark_logger:
    run = Run(
      Options(**speech_flags.plain_values(flags_obj, Options)),
      settings,
      functools.partial(generate_dataset, flags_obj=flags_obj),
      functools.partial(make_estimator, flags_obj, devices=devices),
      _make_decoder,
      len(devices),
    )
    values, optimizer = speech_flags.flag_values(flags_obj, devices), run.estimator.params["optimizer"]
    run.prepare_folders(values, lambda: inference.variable_shapes(settings, len(run.labels), optimizer.state_shapes))
    benchmark_logger.log_run_info("deep_speech", flags_obj.train_data_dir, values, flags_obj.benchmark_test_id)
    each_cycle = [
      actions.evaluate(lambda: run.evaluate("eval")),
      actions.export(run.estimator.latest_checkpoint, run.model_dir, _publisher(flags_obj, run.settings, run.labels)),
      actions.keep_best(run.estimator.latest_checkpoint, run.model_dir),
      actions.log_benchmark(benchmark_logger),
      actions.keep_row(run.model_dir),
      actions.print_line(flags_obj.train_epochs),
    ]
    print(f"stopped: {run.train_until_done(each_cycle, benchmark_logger)}", flush=True)
    return run.score_test_set()


def _publisher(flags_obj: flags.FlagValues, settings: ModelSettings, labels: Sequence[str]) -> Callable | None:
  """Make the function that exports a checkpoint after each cycle; return None if nothing is to be exported."""
  folder, keep = speech_flags.export_dir(flags_obj), flags_obj.keep_exports
  publish = functools.partial(exports.publish, settings=settings, labels=labels, export_dir=folder, keep=keep)
  return publish if keep else None


def _find_checkpoint(flags_obj: flags.FlagValues) -> tuple[str, ModelSettings, list[str]]:
  """Find the checkpoint that the flags ask for, its settings and its labels."""
  speech_flags.check_flags(flags_obj)
  given = speech_flags.given_settings(flags_obj), speech_flags.given_vocabulary(flags_obj), flags_obj.vocabulary_file
  return model_dir.find_checkpoint(flags_obj.model_dir, flags_obj.checkpoint, *given, flags_obj.average_checkpoints)


def evaluate_checkpoint(flags_obj: flags.FlagValues, devices: Sequence[str] | None = None) -> list[dict]:
  """Score a checkpoint on manifests with the first device, print a line for each and return their results."""
  checkpoint, settings, labels = _find_checkpoint(flags_obj)
  devices = speech_flags.choose_devices(flags_obj, devices)
  of_model = settings, model_dir.vocabulary_of(checkpoint, flags_obj.vocabulary_file)
  paths = speech_flags.manifests_to_score(flags_obj)
  return score_sets(
    # All are checked before the first is scored.
    {path: generate_dataset(path, flags_obj, False, *of_model) for path in paths},
    functools.partial(make_estimator, flags_obj, labels, devices[:1], settings),
    _make_decoder(labels),
    Options(**speech_flags.plain_values(flags_obj, Options)),
    checkpoint,
    len(devices),
  )


def export_checkpoint(flags_obj: flags.FlagValues) -> list[str]:
  """Export a checkpoint, print the folders and return them."""
  checkpoint, settings, labels = _find_checkpoint(flags_obj)
  of_run = model_dir.run_of(checkpoint)
  folder = flags_obj.export_dir or os.path.join(of_run.path, "export")
  step = of_run.global_step(checkpoint)
  keep = flags_obj.keep_exports if flags_obj["keep_exports"].present else None
  folders = exports.publish(checkpoint, settings, labels, folder, step, of_run.holds_best(checkpoint), keep)
  for folder in folders:
    print(f"exported {checkpoint} to {folder}", flush=True)
  return folders


_MODES: dict[str, Callable] = {"train": run_deep_speech, "evaluate": evaluate_checkpoint, "export": export_checkpoint}


def main(_: list[str]) -> None:
  """Run with the flags of the command line."""
  if flags.FLAGS.list_recipes:
    print(recipes.listing())
  else:
    _MODES[flags.FLAGS.mode](flags.FLAGS)


if __name__ == "__main__":
  define_deep_speech_flags()
  flags_core.run(main, __doc__, complete=recipes.apply)
