"""Brings a speech corpus to the disk and writes its manifests."""

import os
import sys

if __name__ == "__main__":
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from collections.abc import Callable
from typing import NamedTuple

from absl import flags

from data.corpora import tones
from official_utils.flags import core as flags_core
from official_utils.misc.errors import UserError


class Corpus(NamedTuple):
  """What can be fetched.

  Attributes:
    download: (data_dir, splits, seed): brings audio and transcripts to the disk.
    prepare: (data_dir, splits) -> the manifest of each split.
    training_flags: flags that train a good network on it.
  """

  download: Callable[..., None]
  prepare: Callable[..., dict[str, str]]
  training_flags: str = ""


SPLITS = ("train", "dev", "test")
CORPORA = {
  "tones": Corpus(
    tones.download_tones,
    tones.prepare_tones,
    "--rnn_hidden_layers=2 --rnn_hidden_size=128 --batch_size=8 --learning_rate=0.002 --train_epochs=8 "
    "--wer_threshold=0.05 --num_gpus=0",
  )
}


def define_download_flags() -> None:
  """Define the flags of this program."""
  define = flags_core.definer(flags.FLAGS)
  define(flags.DEFINE_string, "data_dir", "/tmp/librispeech_data", "The folder for audio and manifests.")
  define(
    flags.DEFINE_enum,
    "corpus",
    None,
    "What to fetch. 'tones' is made on the spot: synthetic speech in which each letter is a pair of tones.",
    enum_values=list(CORPORA),
  )
  for split in SPLITS:
    define(flags.DEFINE_boolean, f"{split}_only", False, f"Whether to fetch the {split} set only.")
  define(flags.DEFINE_integer, "seed", 0, "The seed of a synthetic corpus.")


def chosen_splits(flags_obj: flags.FlagValues) -> tuple[str, ...]:
  """Return the splits that the flags ask for."""
  only = [split for split in SPLITS if flags_obj[f"{split}_only"].value]
  if len(only) > 1:
    raise UserError(
      f"{' and '.join(f'--{split}_only' for split in only)} exclude each other; give one, or none for all"
    )
  return tuple(only) or SPLITS


def main(_: list[str]) -> None:
  """Fetch the corpus and say how to train on it."""
  flags_obj = flags.FLAGS
  splits = chosen_splits(flags_obj)
  if flags_obj.corpus is None:
    raise UserError(f"--corpus is not given; choose one of: {', '.join(f'--corpus={name}' for name in CORPORA)}")
  if flags_obj.seed < 0:
    raise UserError(f"--seed={flags_obj.seed} is negative; give 0 or more")
  corpus = CORPORA[flags_obj.corpus]
  try:
    corpus.download(flags_obj.data_dir, splits, flags_obj.seed)
    manifests = corpus.prepare(flags_obj.data_dir, splits)
  except OSError as error:
    raise UserError(
      f"--data_dir={flags_obj.data_dir}: {error.strerror} ({error.filename}); give another folder"
    ) from error
  for path in manifests.values():
    print(f"wrote {path}")
  print(training_hint(corpus, manifests))


def training_hint(corpus: Corpus, manifests: dict[str, str]) -> str:
  """Say how to train on what was fetched."""
  if manifests.keys() != set(SPLITS):
    return "Training takes a train and a dev manifest: without --*_only, all are made."
  return (
    f"Train on it with\n  python deep_speech.py --train_data_dir={manifests['train']} --eval_data_dir={manifests['dev']} "
    f"--test_data_dir={manifests['test']} {corpus.training_flags}"
  ).rstrip()


if __name__ == "__main__":
  define_download_flags()
  flags_core.run(main, "Fetches a speech corpus and writes its manifests.")
