"""Mozilla Common Voice: sentences read by volunteers, a release of one language."""

import csv
import os
from collections.abc import Sequence

from data.corpora import utterances
from data.corpora.utterances import Options, Utterance
from official_utils.misc.errors import UserError

SPLITS = utterances.SPLITS
CLIPS = "clips"


def download_common_voice(source: str | None = None) -> None:
  """Make sure that there is something to prepare: a release cannot be fetched without an account.

  Args:
    source: the folder or archive of a release.
  """
  if source is None:
    raise UserError(
      "Common Voice has no public address: download a release at commonvoice.mozilla.org and give its folder or "
      "archive with --source"
    )


def prepare_common_voice(
  data_dir: str,
  source: str | None = None,
  splits: Sequence[str] = SPLITS,
  vocabulary_file: str = utterances.VOCABULARY_FILE,
  digits: str = "drop",
  to_wav: bool = False,
) -> dict[str, str]:
  """Write the manifests of a release, divided as its tables train.tsv, dev.tsv and test.tsv are.

  Args:
    data_dir: the manifests go to `<data_dir>/common_voice/`.
    source: the folder of a release with its tables and `clips`, or a folder above it, or its archive. None for an
      archive that was unpacked before.
    splits: which of train, dev and test.
    vocabulary_file: the alphabet of the transcripts.
    digits: what becomes of transcripts with digits, "drop" or "spell".
    to_wav: whether to write copies as 16 kHz WAV; decoding MP3 costs time in every epoch.

  Returns:
    The manifest of each split.
  """
  root = utterances.find_folder(utterances.locate_source(source, data_dir, "common_voice"), CLIPS)
  folder = os.path.join(data_dir, "common_voice")
  if os.path.realpath(folder) == os.path.realpath(root):
    raise UserError(f"{folder}: the manifests would overwrite the tables of the release; give another --data_dir")
  parts = {split: _read_table(os.path.join(root, f"{split}.tsv"), os.path.join(root, CLIPS)) for split in splits}
  return utterances.prepare_splits(folder, parts, Options(vocabulary_file, digits, to_wav))


def _read_table(path: str, clips: str) -> list[Utterance]:
  """List the rows of a table of the release, in which quotes are but characters."""
  rows = csv.DictReader(utterances.read_text(path).split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
  if not {"path", "sentence"} <= set(rows.fieldnames or ()):
    raise UserError(f"{path}, line 1: expected columns path and sentence, found {rows.fieldnames}; check --source")
  found = []
  for row in rows:
    if row["sentence"] is None:
      raise UserError(f"{path}, line {rows.line_num}: the row ends before its sentence; fetch the release anew")
    # The first releases named clips without their ending.
    name = row["path"] if os.path.splitext(row["path"])[1] else f"{row['path']}.mp3"
    found.append(Utterance(os.path.join(clips, name), row["sentence"]))
  return found
