"""AN4, the census corpus of Carnegie Mellon University: an hour of names, addresses and numbers, many of them spelled."""

import os
import re
import zlib
from collections.abc import Sequence

import numpy as np

from data.corpora import utterances
from data.corpora.utterances import DEFAULTS, SPLITS, Options, Utterance
from official_utils.misc.errors import UserError

URL = "http://www.speech.cs.cmu.edu/databases/an4/an4_raw.bigendian.tar.gz"
# The archive and what is in it, and as much again as WAV.
ROOM_BYTES = 400_000_000
MARK = os.path.join("etc", "an4_train.fileids")
RAW = ".raw"
ENDINGS = (RAW, ".wav", ".sph")
# "<s> ENTER FOUR FIVE ONE </s> (an81-fash-b)", or without the marks of beginning and end.
TRANSCRIPT = re.compile(r"\s*(.*?)\s*\(([^()\s]+)\)\s*")
# Marks of beginning, end and noises; numbers of pronunciations.
NOT_SPOKEN = re.compile(r"<[^>]*>|\+\+[^+]*\+\+|\(\d+\)")
# One speaker of the training set in so many goes to the dev set, which the corpus has not.
DEV_SHARE = 10


def download_an4(data_dir: str, source: str | None = None) -> None:
  """Fetch the corpus to `<data_dir>/an4/source`, unless the user has it at `source`."""
  if source is None:
    # No checksum was ever published; the archive's own ones are compared as it is unpacked.
    utterances.fetch_archive(data_dir, "an4", URL, None, ROOM_BYTES)


def prepare_an4(
  data_dir: str, source: str | None = None, splits: Sequence[str] = SPLITS, options: Options = DEFAULTS
) -> dict[str, str]:
  """Write the manifests, and WAV files of recordings that come without a header.

  Args:
    data_dir: the manifests go to `<data_dir>/an4/`.
    source: the folder of the corpus with `etc` and `wav`, or a folder above it, or its archive; None for what
      `download_an4` fetched.
    splits: which of train, dev and test. All that some of the speakers of the training set say is dev.
    options: how transcripts and recordings are prepared.

  Returns:
    The manifest of each split.
  """
  root = utterances.find_folder(utterances.locate_source(source, data_dir, "an4"), MARK)
  folder = os.path.join(data_dir, "an4")
  parts: dict[str, list[Utterance]] = {split: [] for split in splits}
  for split in splits:
    utterances.make_clean(_wav_folder(folder, split))
  for published in ("train", "test"):
    for file_id, text, source in _read_list(root, published):
      is_dev = published == "train" and zlib.crc32(os.path.dirname(file_id).encode()) % DEV_SHARE == 0
      split = "dev" if is_dev else published
      if split in parts:
        path = _find_audio(root, file_id, _wav_folder(folder, split))
        parts[split].append(Utterance(path, text, source))
  return utterances.prepare_splits(folder, parts, options)


def _read_list(root: str, published: str) -> list[tuple[str, str, str]]:
  """Read one of the lists of files: each with its transcript, and where that stands."""
  names = os.path.join(root, "etc", f"an4_{published}.fileids")
  transcripts = os.path.join(root, "etc", f"an4_{published}.transcription")
  texts: dict[str, tuple[str, str]] = {}
  for number, line in enumerate(utterances.read_text(transcripts).splitlines(), start=1):
    if not line.strip():
      continue
    match = TRANSCRIPT.fullmatch(line)
    if not match:
      raise UserError(f"{transcripts}, line {number}: {line[:100]!r} does not end with the name of a file in ()")
    texts[match.group(2)] = NOT_SPOKEN.sub(" ", match.group(1)), f"{transcripts}, line {number}"
  found = []
  for number, file_id in enumerate(utterances.read_text(names).split(), start=1):
    if os.path.basename(file_id) not in texts:
      raise UserError(f"{names}, line {number}: {file_id} has no transcript in {transcripts}")
    found.append((file_id, *texts[os.path.basename(file_id)]))
  return found


def _find_audio(root: str, file_id: str, wav_folder: str) -> str:
  """Return the path of a listed recording, after making a WAV file of one that has no header."""
  stem = os.path.join(root, "wav", *file_id.split("/"))
  path = next((stem + ending for ending in ENDINGS if os.path.exists(stem + ending)), None)
  if path is None or not path.endswith(RAW):
    # A missing file is reported when its length is read.
    return path or f"{stem}.wav"
  copy = os.path.join(wav_folder, f"{os.path.basename(stem)}.wav")
  utterances.update_copy(copy, path, read_raw)
  return copy


def _wav_folder(folder: str, split: str) -> str:
  """Name the folder for WAV files of recordings that come without a header."""
  return os.path.join(folder, "wav", split)


def read_raw(path: str) -> np.ndarray:
  """Read 16-bit samples without a header.

  The corpus was published in both orders of bytes; in the wrong one, speech looks like noise.

  Args:
    path: the file.

  Returns:
    int16 [samples].
  """
  if os.path.getsize(path) % 2:
    raise UserError(f"{path}: has an odd number of bytes, so some are missing; fetch the corpus again")
  big, little = (np.fromfile(path, dtype) for dtype in (">i2", "<i2"))
  roughness = [np.abs(np.diff(samples.astype(np.int64))).sum() for samples in (big, little)]
  return (big if roughness[0] <= roughness[1] else little).astype(np.int16)
