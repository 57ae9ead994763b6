"""Converts an export to one TensorFlow Lite file: audio to text on a phone or a small board.

python tflite_export.py --export=MODEL_DIR/export --output=model.tflite

The file has the export's signature `serving_default`: `audio` float32 [batch, samples] and `length` int32 [batch] to
`text`, `log_probs` and `lengths`, for any batch and length. Operations missing from TensorFlow Lite, such as double
precision and lists of tensors, stay in the file as TensorFlow's own, so running it needs the Select TensorFlow
operations.
"""

if __name__ == "__main__":
  from official_utils.misc import commands

  commands.begin()

import numpy as np
from absl import flags

import exports
from official_utils.flags import core as flags_core
from official_utils.lazy import held_back_logs, tf
from official_utils.misc import files
from official_utils.misc.errors import UserError

# TensorFlow has these kernels, but they are missing from the converter's own list of what may be selected.
_ALSO_SELECTED = ["Log1p"]


def export_tflite(export: str, path: str, quantize: bool = True) -> int:
  """Convert an export to a TensorFlow Lite file, which is run once before it is written.

  Args:
    export: an export, or an export_dir, whose newest best export is taken.
    path: the file to write; an existing one is replaced.
    quantize: whether to keep the weights of large products in 8 bits, a quarter of their size.

  Returns:
    The file's size in bytes.
  """
  folder = exports.find_export(export)
  if not folder:
    raise UserError(f"{export}: no export is there; write one with --mode=export")
  with held_back_logs(unless=UserError):
    # Loading it first says what is wrong with a damaged export; the converter would not.
    model = exports.load_export(folder)
    content = _convert(folder, quantize)
    _try_out(content, model.sample_rate)
  try:
    with files.atomic_writer(path, "wb") as file:
      file.write(content)
  except OSError as error:
    raise UserError(f"cannot write {path}: {error.strerror}; choose another file") from error
  return len(content)


def _convert(folder: str, quantize: bool) -> bytes:
  """Convert the signature of raw samples."""
  converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[exports.SIGNATURE])
  converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
  converter.target_spec.experimental_select_user_tf_ops = _ALSO_SELECTED
  converter.optimizations = [tf.lite.Optimize.DEFAULT] if quantize else []
  return converter.convert()


def _try_out(content: bytes, sample_rate: int) -> None:
  """Run a converted model on a second of silence."""
  run = tf.lite.Interpreter(model_content=content).get_signature_runner(exports.SIGNATURE)
  try:
    run(audio=np.zeros([1, sample_rate], np.float32), length=np.array([sample_rate], np.int32))
  except RuntimeError as error:
    raise UserError(
      f"TensorFlow {tf.__version__} cannot run the converted model ({str(error).split('.')[0]}): its interpreter has no "
      "Select TensorFlow operations from 2.20 on; convert the export with TensorFlow 2.15 to 2.19"
    ) from error


def define_tflite_flags() -> None:
  """Define the flags for what to convert, and to what."""
  flags.DEFINE_string("export", None, "The export, or a folder of exports, whose newest best is taken.", required=True)
  flags.DEFINE_string("output", "model.tflite", "The file to write.")
  flags.DEFINE_boolean("quantize", True, "Whether to keep the weights of large products in 8 bits.")


def main(_: list[str]) -> None:
  """Convert the export that the command line names."""
  options = flags.FLAGS
  size = export_tflite(options.export, options.output, options.quantize)
  print(f"{options.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
  define_tflite_flags()
  flags_core.run(main, __doc__)
