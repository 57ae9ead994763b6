"""LJ Speech: 24 hours of books read by one speaker."""

import os
from collections.abc import Sequence

from data.corpora import utterances
from data.corpora.utterances import DEFAULTS, SPLITS, Options, Utterance
from official_utils.misc.errors import UserError

URL = "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2"
SHA256 = "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5"
# The archive and what is in it.
ROOM_BYTES = 6_700_000_000
TABLE = "metadata.csv"


def download_ljspeech(data_dir: str, source: str | None = None) -> None:
  """Fetch the corpus to `<data_dir>/ljspeech/source`, unless the user has it at `source`."""
  if source is None:
    utterances.fetch_archive(data_dir, "ljspeech", URL, SHA256, ROOM_BYTES)


def prepare_ljspeech(
  data_dir: str, source: str | None = None, splits: Sequence[str] = SPLITS, options: Options = DEFAULTS
) -> dict[str, str]:
  """Write the manifests; the corpus comes undivided, and 5 % each go to dev and test, always the same.

  Args:
    data_dir: the manifests go to `<data_dir>/ljspeech/`.
    source: the folder with metadata.csv and `wavs`, or a folder above it, or its archive; None for what
      `download_ljspeech` fetched.
    splits: which of train, dev and test.
    options: how transcripts and recordings are prepared; the recordings have 22.05 kHz, and numbers are spelled out.

  Returns:
    The manifest of each split.
  """
  root = utterances.find_folder(utterances.locate_source(source, data_dir, "ljspeech"), TABLE)
  parts: dict[str, list[Utterance]] = {split: [] for split in splits}
  path = os.path.join(root, TABLE)
  for number, line in enumerate(utterances.read_text(path).split("\n"), start=1):
    fields = line.rstrip("\r").split("|")
    if fields == [""]:
      continue
    if len(fields) != 3:
      raise UserError(f"{path}, line {number}: has {len(fields)} fields between bars instead of 3; fetch it again")
    name, as_printed, as_read = fields
    split = utterances.split_of_key(name)
    if split in parts:
      audio = os.path.join(root, "wavs", f"{name}.wav")
      parts[split].append(Utterance(audio, as_read or as_printed, f"{path}, line {number}"))
  folder = os.path.join(data_dir, "ljspeech")
  return utterances.prepare_splits(folder, parts, options)
