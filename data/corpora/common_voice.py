"""Mozilla Common Voice: sentences read by volunteers, a release of one language."""

import os
from collections.abc import Sequence

from data.corpora import utterances
from data.corpora.utterances import DEFAULTS, SPLITS, Options, Utterance
from official_utils.misc.errors import UserError

CLIPS = "clips"


def download_common_voice(source: str | None = None) -> None:
  """Refuse to go on without a source: a release cannot be fetched without an account.

  Args:
    source: the folder or archive of a release.
  """
  if source is None:
    raise UserError(
      "Common Voice has no public address: download a release at commonvoice.mozilla.org and give its folder or "
      "archive with --source"
    )


def prepare_common_voice(
  data_dir: str, source: str | None = None, splits: Sequence[str] = SPLITS, options: Options = DEFAULTS
) -> dict[str, str]:
  """Write the manifests of a release, divided as its tables train.tsv, dev.tsv and test.tsv are.

  Args:
    data_dir: the manifests go to `<data_dir>/common_voice/`.
    source: the folder of a release with its tables and `clips`, or a folder above it, or its archive. None for an
      archive that was unpacked before.
    splits: which of train, dev and test.
    options: how transcripts and recordings are prepared; `to_wav` saves decoding MP3 in every epoch.

  Returns:
    The manifest of each split.
  """
  root = utterances.find_folder(utterances.locate_source(source, data_dir, "common_voice"), CLIPS)
  folder = os.path.join(data_dir, "common_voice")
  if os.path.realpath(folder) == os.path.realpath(root):
    raise UserError(f"{folder}: the manifests would overwrite the tables of the release; give another --data_dir")
  parts = {split: _read_table(os.path.join(root, f"{split}.tsv"), os.path.join(root, CLIPS)) for split in splits}
  return utterances.prepare_splits(folder, parts, options)


def _read_table(path: str, clips: str) -> list[Utterance]:
  """List the rows of a table of the release, in which a quote is a character like any other."""
  rows = [line.rstrip("\r").split("\t") for line in utterances.read_text(path).split("\n")]
  if not {"path", "sentence"} <= set(rows[0]):
    raise UserError(f"{path}, line 1: expected columns path and sentence, found {rows[0]}; check --source")
  found = []
  for number, fields in enumerate(rows[1:], start=2):
    if fields == [""]:
      continue
    row = dict(zip(rows[0], fields, strict=False))
    if not {"path", "sentence"} <= row.keys():
      raise UserError(f"{path}, line {number}: the row ends before its path and sentence; fetch the release again")
    # The first releases named clips without their ending.
    name = row["path"] if os.path.splitext(row["path"])[1] else f"{row['path']}.mp3"
    found.append(Utterance(os.path.join(clips, name), row["sentence"], f"{path}, line {number}"))
  return found
