"""Any recordings that the user has: a tree of audio files with their transcripts beside them, or a table of them."""

import csv
import io
import os
from collections.abc import Sequence

from data.audio import SUFFIXES
from data.corpora import utterances
from data.corpora.utterances import DEFAULTS, SPLITS, Options, Utterance
from official_utils.misc.errors import UserError

TEXT_ENDINGS = (".txt", ".lab")
TABLE_ENDINGS = (".csv", ".tsv")
# Between tabs or bars, a quote is a character like any other.
PLAIN_DELIMITERS, QUOTING_DELIMITERS = "\t|", ",;"
# What people call the columns of a table, and the folders of splits.
PATH_COLUMNS = ("path", "file", "filename", "file_name", "audio", "audio_path", "audio_filepath", "wav", "wav_filename")
TEXT_COLUMNS = ("transcript", "text", "transcription", "sentence")
SPLIT_COLUMN = "split"
SPLIT_NAMES = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test"}


def download_folder(source: str | None = None) -> None:
  """Refuse to go on without a source: nothing is fetched.

  Args:
    source: the folder, archive or table.
  """
  if source is None:
    raise UserError("--corpus=folder takes what you have: give the folder, archive or table (.csv, .tsv) with --source")


def prepare_folder(
  data_dir: str, source: str, splits: Sequence[str] = SPLITS, options: Options = DEFAULTS
) -> dict[str, str]:
  """Write the manifests of recordings of any origin.

  They are divided as their folders (train, dev, valid, test at the top) or a column `split` say. Without either, each
  goes to a split that depends on its path alone: about 90 %, 5 % and 5 %.

  Args:
    data_dir: the manifests go to `<data_dir>/folder/`.
    source: a folder or archive of audio files, each with a transcript in a file of the same name that ends with .txt
      or .lab; or a table (.csv, .tsv) with a header that names the columns of paths and transcripts.
    splits: which of train, dev and test.
    options: how transcripts and recordings are prepared.

  Returns:
    The manifest of each split.
  """
  folder = os.path.join(data_dir, "folder")
  if source.lower().endswith(TABLE_ENDINGS):
    if os.path.realpath(os.path.dirname(source)) == os.path.realpath(folder):
      raise UserError(f"--source={source}: the manifests would overwrite it; give another --data_dir")
    parts = _read_table(source)
  else:
    model_dir = utterances.model_folder(data_dir, "folder")
    parts = _read_tree(utterances.locate_source(source, data_dir, "folder"), os.path.realpath(model_dir))
  chosen = {split: parts[split] for split in splits}
  return utterances.prepare_splits(folder, chosen, options)


def _read_tree(root: str, left_out: str) -> dict[str, list[Utterance]]:
  """List the audio files below a folder that have transcripts; name audio without text, and text without audio.

  Args:
    root: the folder.
    left_out: the real path of a folder that is not searched, as models have files that end with .txt.
  """
  found, without_text, without_audio = [], [], []
  for folder, subfolders, names in os.walk(root):
    subfolders[:] = sorted(name for name in subfolders if os.path.realpath(os.path.join(folder, name)) != left_out)
    files = [os.path.splitext(os.path.join(folder, name)) for name in sorted(names)]
    audio = [(stem, ending) for stem, ending in files if ending.lower() in SUFFIXES]
    for stem, ending in audio:
      text = next((stem + text_ending for text_ending in TEXT_ENDINGS if os.path.exists(stem + text_ending)), None)
      if text:
        found.append(Utterance(stem + ending, utterances.read_text(text), text))
      else:
        without_text.append(f"{stem}{ending}: no text of the same name is beside it")
    recorded = {stem for stem, _ in audio}
    without_audio += [
      f"{stem}{ending}: no audio of the same name is beside it"
      for stem, ending in files
      if ending in TEXT_ENDINGS and stem not in recorded
    ]
  utterances.report_left_out(without_text, "audio files without a transcript beside them")
  utterances.report_left_out(without_audio, f"texts ({', '.join(TEXT_ENDINGS)}) without audio beside them")
  if not found:
    raise UserError(f"{root}: no audio file there has a transcript of the same name that ends with .txt or .lab")
  places = [os.path.relpath(utterance.path, root) for utterance in found]
  tops = [SPLIT_NAMES.get(place.split(os.sep)[0].lower()) for place in places]
  if "train" not in tops:
    tops = [None] * len(tops)
  return _divide(found, places, tops)


def _read_table(path: str) -> dict[str, list[Utterance]]:
  """List the rows of a table with a header."""
  text = utterances.read_text(path)
  header = text.split("\n", 1)[0].rstrip("\r")
  rows = _cut(path, text, max(PLAIN_DELIMITERS + QUOTING_DELIMITERS, key=header.count))
  columns = [column.strip().lower() for column in rows[0]]
  path_column, text_column = (
    next((columns.index(name) for name in names if name in columns), None) for names in (PATH_COLUMNS, TEXT_COLUMNS)
  )
  if path_column is None or text_column is None:
    raise UserError(
      f"{path}, line 1: the header {header[:100]!r} must name a column of paths ({', '.join(PATH_COLUMNS)}) and one "
      f"of transcripts ({', '.join(TEXT_COLUMNS)})"
    )
  split_column = columns.index(SPLIT_COLUMN) if SPLIT_COLUMN in columns else None
  found, places, tops = [], [], []
  for number, row in enumerate(rows[1:], start=2):
    if row in ([], [""]):
      continue
    if len(row) != len(columns):
      raise UserError(f"{path}, row {number}: has {len(row)} fields, the header {len(columns)}; correct the row")
    places.append(row[path_column])
    audio = os.path.join(os.path.dirname(path), row[path_column])
    found.append(Utterance(audio, row[text_column], f"{path}, row {number}"))
    tops.append(None if split_column is None else _split_named(path, number, row[split_column]))
  return _divide(found, places, tops)


def _cut(path: str, text: str, delimiter: str) -> list[list[str]]:
  """Cut a table into rows and fields."""
  if delimiter in PLAIN_DELIMITERS:
    return [line.rstrip("\r").split(delimiter) for line in text.split("\n")]
  reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
  try:
    return list(reader)
  except csv.Error as error:
    raise UserError(f"{path}, line {reader.line_num}: {error}; quote the row as CSV") from error


def _split_named(path: str, number: int, name: str) -> str:
  """Find the split that a row names."""
  try:
    return SPLIT_NAMES[name.strip().lower()]
  except KeyError as error:
    raise UserError(f"{path}, row {number}: split {name!r} is none of {', '.join(SPLIT_NAMES)}") from error


def _divide(
  found: Sequence[Utterance], places: Sequence[str], tops: Sequence[str | None]
) -> dict[str, list[Utterance]]:
  """Put each utterance into the split that its folder or row names or, if none does, into one that its path decides."""
  parts: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
  divided = any(tops)
  for utterance, place, top in zip(found, places, tops, strict=True):
    split = top if divided else utterances.split_of_key(place.replace(os.sep, "/"))
    if split:
      parts[split].append(utterance)
  return parts
