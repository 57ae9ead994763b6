"""VoxForge: sentences read by volunteers, each submission an archive of its own."""

import os
import re
import sys
from collections.abc import Iterator, Sequence

from data.corpora import archives, utterances
from data.corpora.utterances import DEFAULTS, SPLITS, Options, Utterance
from official_utils.misc.errors import UserError

ARCHIVE_ENDINGS = (".tgz", ".tar.gz")
# The first has the words alone, in capitals; the second is as the reader saw it.
PROMPTS = (os.path.join("etc", "PROMPTS"), os.path.join("etc", "prompts-original"))
AUDIO_FORMS = ("wav", "flac")
# Aaron-20080318-kdl: who, when, and three letters drawn by chance.
SUBMISSION = re.compile(r"(.+)-\d{8}-\w+")
NAMELESS = "anonymous"


def download_voxforge(source: str | None = None) -> None:
  """Refuse to go on without a source: the thousands of archives have no stable address to fetch them from.

  Args:
    source: the folder of the archives.
  """
  if source is None:
    raise UserError(
      "VoxForge has no stable address: download the archives that voxforge.org lists and give their folder with "
      "--source"
    )


def prepare_voxforge(
  data_dir: str, source: str, splits: Sequence[str] = SPLITS, options: Options = DEFAULTS
) -> dict[str, str]:
  """Write the manifests; dev and test have about 5 % of the speakers each, always the same and in no other set.

  Args:
    data_dir: archives are unpacked to `<data_dir>/voxforge/source`; the manifests go to `<data_dir>/voxforge/`.
    source: a folder of archives (.tgz), of unpacked ones, or of both.
    splits: which of train, dev and test.
    options: how transcripts and recordings are prepared.

  Returns:
    The manifest of each split.
  """
  if not os.path.isdir(source):
    raise UserError(f"--source={source}: there is no such folder; give the one with the archives of VoxForge")
  unpacked = utterances.source_folder(data_dir, "voxforge")
  _unpack_all(source, unpacked)
  parts: dict[str, list[Utterance]] = {split: [] for split in splits}
  seen = set()
  for submission in sorted({*_submissions(source), *_submissions(unpacked)}):
    name = os.path.basename(submission)
    split = utterances.split_of_key(speaker_of(name))
    if split in parts and name not in seen:
      seen.add(name)
      parts[split] += _read_prompts(submission)
  if not any(parts.values()):
    raise UserError(f"{source}: holds no submission with etc/PROMPTS, packed or not, for {', '.join(splits)}")
  folder = os.path.join(data_dir, "voxforge")
  return utterances.prepare_splits(folder, parts, options)


def speaker_of(submission: str) -> str:
  """Tell who made a submission; each one without a name counts as a speaker of its own."""
  match = SUBMISSION.fullmatch(submission)
  return submission if match is None or match.group(1) == NAMELESS else match.group(1)


def _unpack_all(source: str, unpacked: str) -> None:
  """Unpack each archive into a folder of its own; damaged ones are left out and named."""
  num_damaged = 0
  for name in sorted(os.listdir(source)):
    ending = next((ending for ending in ARCHIVE_ENDINGS if name.endswith(ending)), None)
    if ending is None:
      continue
    os.makedirs(unpacked, exist_ok=True)
    try:
      archives.unpack(os.path.join(source, name), os.path.join(unpacked, name.removesuffix(ending)))
    except UserError as error:
      num_damaged += 1
      print(f"left out: {error}", file=sys.stderr)
  if num_damaged:
    print(f"left out: {num_damaged} archives that cannot be unpacked")


def _submissions(root: str) -> Iterator[str]:
  """Yield the folders at or below one that hold prompts."""
  for folder, subfolders, _ in os.walk(root):
    subfolders.sort()
    if any(os.path.exists(os.path.join(folder, prompts)) for prompts in PROMPTS):
      subfolders.clear()
      yield folder


def _read_prompts(submission: str) -> list[Utterance]:
  """List the recordings of a submission."""
  prompts = next(path for name in PROMPTS if os.path.exists(path := os.path.join(submission, name)))
  found = []
  for number, line in enumerate(utterances.read_text(prompts).splitlines(), start=1):
    # "Aaron-20080318-kdl/mfc/a0001 TEXT", or "a0001 Text".
    place, _, text = line.strip().partition(" ")
    if place:
      found.append(Utterance(_find_audio(submission, place.split("/")[-1]), text, f"{prompts}, line {number}"))
  return found


def _find_audio(submission: str, name: str) -> str:
  """Name the recording of a prompt, as WAV or FLAC; a missing one is reported when its length is read."""
  paths = [os.path.join(submission, form, f"{name}.{form}") for form in AUDIO_FORMS]
  return next((path for path in paths if os.path.exists(path)), paths[0])
