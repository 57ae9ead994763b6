"""LibriSpeech: 1000 hours of read English, and the 5 hours of it that are called Mini LibriSpeech."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from data import audio, manifest
from data.corpora import archives, fetch, prepared, utterances
from data.corpora.utterances import SAMPLE_RATE, SPLITS, Utterance
from official_utils.misc.errors import UserError
from official_utils.misc.parallel import in_parallel

# Each serves the archives of corpus n in its folder n.
MIRRORS = {
  "official": "https://www.openslr.org/resources",
  "europe": "https://openslr.elda.org/resources",
  "china": "https://openslr.magicdatatech.com/resources",
}
# Manifest -> the subsets that it combines; made when all of them are there.
COMBINED = {
  "train-clean-100+360": ("train-clean-100", "train-clean-360"),
  "train-960": ("train-clean-100", "train-clean-360", "train-other-500"),
  "dev": ("dev-clean", "dev-other"),
  "test": ("test-clean", "test-other"),
}
# Room that an unpacked archive, and its audio as WAV, take, as multiples of the archive: FLAC hardly compresses further.
UNPACKED_ROOM = 1.05
WAV_ROOM = 2.0


class Subset(NamedTuple):
  """What was published.

  Attributes:
    md5: the checksum of its archive, for where the publisher's own list cannot be reached.
    num_utterances: how many it has.
  """

  md5: str
  num_utterances: int


class Release(NamedTuple):
  """A corpus of several subsets.

  Attributes:
    number: the folder on the mirrors.
    subsets: name -> what was published.
  """

  number: int
  subsets: dict[str, Subset]


LIBRISPEECH = Release(
  12,
  {
    "train-clean-100": Subset("2a93770f6d5c6c964bc36631d331a522", 28539),
    "train-clean-360": Subset("c0e676e450a7ff2f54aeade5171606fa", 104014),
    "train-other-500": Subset("d1a0fd59409feb2c614ce4d30c387708", 148688),
    "dev-clean": Subset("42e2234ba48799c1f50f24a7926300a1", 2703),
    "dev-other": Subset("c8d0bcc9cca99d4f8b62fcc847357931", 2864),
    "test-clean": Subset("32fa31d27d2e1cad72775fee3f4849a9", 2620),
    "test-other": Subset("fb5a50374b501bb3bac4815ee91d3135", 2939),
  },
)
MINI_LIBRISPEECH = Release(
  31,
  {
    "train-clean-5": Subset("5df7d4e78065366204ca6845bb08f490", 1519),
    "dev-clean-2": Subset("6d7ab67ac6a1d2c993d050e16d61080d", 1089),
  },
)


def download_librispeech(
  data_dir: str,
  subsets: Sequence[str] | None = None,
  splits: Sequence[str] = SPLITS,
  mirror: str | None = None,
  to_wav: bool = False,
) -> None:
  """Fetch and unpack LibriSpeech.

  Args:
    data_dir: each subset goes to `<data_dir>/<subset>`. One that is there, or in `<data_dir>/LibriSpeech`, is left
      alone; an archive that lies there is used, and kept.
    subsets: names of LIBRISPEECH.subsets; None for all.
    splits: which of train, dev and test.
    mirror: one of MIRRORS, or the address of a like folder; None for all of them in turn.
    to_wav: whether `prepare_librispeech` will need room for WAV files.
  """
  _download(LIBRISPEECH, data_dir, _choose(LIBRISPEECH, subsets, splits), mirror, to_wav)


def prepare_librispeech(
  data_dir: str,
  subsets: Sequence[str] | None = None,
  splits: Sequence[str] = SPLITS,
  max_duration: float = 27.0,
  to_wav: bool = False,
) -> dict[str, str]:
  """Write the manifests of LibriSpeech, those of COMBINED too where their subsets are there.

  Args:
    data_dir: has the subsets, as `<data_dir>/<subset>` or `<data_dir>/LibriSpeech/<subset>`; manifests are
      `<data_dir>/<name>.csv`.
    subsets: names of LIBRISPEECH.subsets; None for all.
    splits: which of train, dev and test.
    max_duration: seconds; combined manifests leave out longer utterances.
    to_wav: whether to write `<data_dir>/<subset>-wav/<utterance>.wav` for the manifests to name.

  Returns:
    Name -> path of each manifest; "train", "dev" and "test" are those to train and evaluate with.
  """
  return _prepare(LIBRISPEECH, data_dir, _choose(LIBRISPEECH, subsets, splits), max_duration, to_wav)


def download_mini_librispeech(
  data_dir: str, splits: Sequence[str] = SPLITS, mirror: str | None = None, to_wav: bool = False
) -> None:
  """Fetch and unpack Mini LibriSpeech, which has no test set; see `download_librispeech`."""
  _download(MINI_LIBRISPEECH, data_dir, _choose(MINI_LIBRISPEECH, None, splits), mirror, to_wav)


def prepare_mini_librispeech(data_dir: str, splits: Sequence[str] = SPLITS, to_wav: bool = False) -> dict[str, str]:
  """Write the manifests of Mini LibriSpeech; see `prepare_librispeech`."""
  return _prepare(MINI_LIBRISPEECH, data_dir, _choose(MINI_LIBRISPEECH, None, splits), float("inf"), to_wav)


def _choose(release: Release, subsets: Sequence[str] | None, splits: Sequence[str]) -> list[str]:
  """Return the subsets that are asked for, in the order of the release."""
  for name in subsets or ():
    if name not in release.subsets:
      raise UserError(f"--subsets: there is no {name!r}; choose among {', '.join(release.subsets)}")
  names = [
    name
    for name in release.subsets
    if (subsets is None or name in subsets) and any(name.startswith(f"{split}-") for split in splits)
  ]
  if not names:
    wanted = ",".join(subsets or ()) or "the corpus"
    raise UserError(f"{wanted} has no {' or '.join(splits)} set; leave out --{splits[0]}_only or choose other subsets")
  return names


# Fetching.


def _download(release: Release, data_dir: str, names: Sequence[str], mirror: str | None, to_wav: bool) -> None:
  """Fetch and unpack the named subsets that are not there."""
  bases = [f"{address}/{release.number}" for address in _addresses(mirror)]
  pending = []
  for name in names:
    folder = _find_folder(data_dir, name)
    if folder is None:
      pending.append(name)
    else:
      print(f"{name}: is already in {folder}")
  if pending:
    os.makedirs(data_dir, exist_ok=True)
    _check_room(data_dir, bases, pending, to_wav)
    checksums = _published_checksums(bases)
  for name in pending:
    _fetch_subset(release, data_dir, name, bases, checksums.get(f"{name}.tar.gz"))
  for name in names:
    _drop_archive(data_dir, name)
  # It is not empty if a command for other subsets was interrupted.
  with contextlib.suppress(OSError):
    os.rmdir(_fetched_folder(data_dir))


def _addresses(mirror: str | None) -> list[str]:
  """Return the addresses to try in turn."""
  if mirror is None:
    return list(MIRRORS.values())
  if mirror in MIRRORS:
    return [MIRRORS[mirror]]
  if not re.match(r"https?://\S+$", mirror):
    raise UserError(f"--mirror={mirror} is not an address; give http://..., https://... or one of {', '.join(MIRRORS)}")
  return [mirror.rstrip("/")]


def _check_room(data_dir: str, bases: Sequence[str], names: Sequence[str], to_wav: bool) -> None:
  """Make sure, before anything is fetched, that the disk has room for all that will be fetched and unpacked."""
  sizes, there = [], 0
  for name in names:
    own, fetched = _archive_paths(data_dir, name)
    present = next((path for path in (own, fetched) if os.path.exists(path)), None)
    if present:
      sizes.append(os.path.getsize(present))
      there += sizes[-1]
      continue
    # A server that does not tell is no reason to stop: fetching notices a full disk, too.
    sizes.append(fetch.remote_size([f"{base}/{name}.tar.gz" for base in bases]) or 0)
    part = fetched + fetch.PART_SUFFIX
    there += os.path.getsize(part) if os.path.exists(part) else 0
  # Archives go one by one, each as soon as it is unpacked.
  needed = max(sizes) + (UNPACKED_ROOM + WAV_ROOM * to_wav) * sum(sizes) - there
  fetch.check_free_space(data_dir, round(needed), f"unpacking {', '.join(names)}")


def _published_checksums(bases: Sequence[str]) -> dict[str, str]:
  """Fetch the publisher's list of checksums, archive -> MD5, from the first mirror that has it."""
  for base in bases:
    text = fetch.fetch_text(f"{base}/md5sum.txt") or ""
    found = re.findall(r"^([0-9a-f]{32})[ *]+(?:\S*/)?(\S+)\s*$", text, re.MULTILINE)
    if found:
      return {archive: checksum for checksum, archive in found}
  return {}


def _fetch_subset(release: Release, data_dir: str, name: str, bases: Sequence[str], published: str | None) -> None:
  """Fetch an archive and unpack it."""
  built_in = release.subsets[name].md5
  if published not in (None, built_in):
    print(f"{name}: the mirror's md5sum.txt has another checksum than this program; taking the mirror's, {published}")
  own, fetched = _archive_paths(data_dir, name)
  archive = own if os.path.exists(own) else fetched
  fetch.fetch([f"{base}/{name}.tar.gz" for base in bases], archive, published or built_in)
  try:
    archives.unpack(archive, os.path.join(data_dir, name))
  except UserError:
    _drop_archive(data_dir, name)
    raise
  _drop_archive(data_dir, name)
  print(f"{name}: unpacked to {os.path.join(data_dir, name)}")


def _archive_paths(data_dir: str, name: str) -> tuple[str, str]:
  """Name the archive that a user may have put there, which is kept, and the one that is fetched here."""
  return os.path.join(data_dir, f"{name}.tar.gz"), os.path.join(_fetched_folder(data_dir), f"{name}.tar.gz")


def _fetched_folder(data_dir: str) -> str:
  """Name the folder for archives that are being fetched."""
  return os.path.join(data_dir, ".fetched")


def _drop_archive(data_dir: str, name: str) -> None:
  """Remove the archive that was fetched, if it is there."""
  with contextlib.suppress(FileNotFoundError):
    os.remove(_archive_paths(data_dir, name)[1])


def _find_folder(data_dir: str, name: str) -> str | None:
  """Find the folder of a subset: as it was unpacked here, or as a user has unpacked the archives."""
  candidates = (os.path.join(data_dir, name), os.path.join(data_dir, "LibriSpeech", name))
  return next((folder for folder in candidates if os.path.isdir(folder)), None)


# Preparing.


def _prepare(
  release: Release, data_dir: str, names: Sequence[str], max_duration: float, to_wav: bool
) -> dict[str, str]:
  """Write the manifests of the named subsets and the combined ones that they belong to."""
  written = {}
  for name in names:
    written[name] = _manifest_path(data_dir, name)
    _prepare_subset(data_dir, name, release.subsets[name].num_utterances, to_wav)
  for name, parts in COMBINED.items():
    sources = [_manifest_path(data_dir, part) for part in parts]
    if not written.keys().isdisjoint(parts) and all(map(os.path.exists, sources)):
      written[name] = _manifest_path(data_dir, name)
      _combine(sources, written[name], max_duration)
  manifests = {}
  for split in SPLITS:
    # The one that deep_speech.py trains on by default comes first.
    fitting = [name for name in ("train-clean-100+360", *names) if name in written and name.startswith(f"{split}-")]
    if fitting:
      manifests[split] = written[fitting[0]]
  return manifests | {os.path.basename(path): path for path in written.values()}


def _prepare_subset(data_dir: str, name: str, num_published: int, to_wav: bool) -> None:
  """Write the manifest of a subset, unless that was done before and nothing has changed."""
  folder = _find_folder(data_dir, name)
  if folder is None:
    raise UserError(f"{data_dir}: has no folder {name}; `python data/download.py --subsets={name}` fetches it")
  path = _manifest_path(data_dir, name)
  marker = os.path.join(folder, prepared.MARKER)
  wav_folder = os.path.join(data_dir, f"{name}-wav") if to_wav else None
  if (wav_folder is None or os.path.isdir(wav_folder)) and prepared.is_current(marker, path, f"to_wav={to_wav}"):
    return
  entries = _read_subset(folder, wav_folder, name)
  _write(path, entries)
  if len(entries) != num_published:
    print(f"{name}: has {len(entries)} utterances, {num_published} were published")
  if archives.is_unpacked(folder):
    # In the folder, so that it goes when the folder goes. A user's own folder may change and gets none.
    prepared.remember(marker, path, f"to_wav={to_wav}")


def _combine(sources: Sequence[str], path: str, max_duration: float) -> None:
  """Write one manifest with those utterances of several that are not too long, unless that was done before."""
  marker = os.path.join(os.path.dirname(path), f".{os.path.basename(path).removesuffix('.csv')}{prepared.MARKER}")
  options = " ".join([f"max_duration={max_duration}", *map(prepared.digest, sources)])
  if prepared.is_current(marker, path, options):
    return
  entries = [entry for source in sources for entry in manifest.read_manifest(source)]
  kept = [entry for entry in entries if manifest.size_to_duration(entry.size) <= max_duration]
  _write(path, kept, f"; {len(entries) - len(kept)} longer than {max_duration:g} s left out")
  prepared.remember(marker, path, options)


def _write(path: str, entries: Sequence[manifest.Entry], more: str = "") -> None:
  """Write a manifest sorted by size, keeping the order within a size, and print what it holds."""
  manifest.write_manifest(path, sorted(entries, key=lambda entry: entry.size))
  hours = sum(manifest.size_to_duration(entry.size) for entry in entries) / 3600
  print(f"{os.path.basename(path)}: {len(entries)} utterances, {hours:.2f} hours{more}")


def _read_subset(folder: str, wav_folder: str | None, name: str) -> list[manifest.Entry]:
  """List the utterances of a subset in the order of their names."""
  found = list(_read_transcripts(folder))
  if wav_folder:
    utterances.make_clean(wav_folder)
  return list(in_parallel(_entry_maker(wav_folder), found, f"preparing {name}"))


def _read_transcripts(folder: str) -> Iterator[Utterance]:
  """Yield the utterances below a folder in the order of their names."""
  empty = True
  for parent, folders, names in os.walk(os.path.abspath(folder)):
    folders.sort()
    present = set(names)
    for name in sorted(name for name in names if name.endswith(".trans.txt")):
      empty = False
      yield from _read_chapter(os.path.join(parent, name), present)
  if empty:
    raise UserError(f"{folder}: holds no *.trans.txt; remove it and run `python data/download.py` to fetch it again")


def _read_chapter(path: str, present: set[str]) -> Iterator[Utterance]:
  """Yield the utterances of a file of transcripts, beside which the audio lies."""
  for number, line in enumerate(utterances.read_text(path).split("\n"), start=1):
    if not line.strip():
      continue
    key, _, transcript = line.strip().partition(" ")
    if f"{key}.flac" not in present:
      raise UserError(
        f"{path}, line {number}: there is no {key}.flac beside it; remove the subset's folder and run "
        "`python data/download.py` to fetch it again"
      )
    yield Utterance(os.path.join(os.path.dirname(path), f"{key}.flac"), transcript.strip().lower())


def _entry_maker(wav_folder: str | None) -> Callable[[Utterance], manifest.Entry]:
  """Return the function that makes the entry of an utterance: of its FLAC file, or of a WAV file that it writes."""

  def from_flac(utterance: Utterance) -> manifest.Entry:
    size = manifest.duration_to_size(audio.audio_duration(utterance.path))
    return manifest.Entry(utterance.path, size, utterance.text)

  if not wav_folder:
    return from_flac

  def from_wav(utterance: Utterance) -> manifest.Entry:
    flac = from_flac(utterance)
    name = os.path.basename(flac.path).removesuffix(".flac")
    path = os.path.abspath(os.path.join(wav_folder, f"{name}.wav"))
    if not (os.path.exists(path) and os.path.getsize(path) == flac.size):
      utterances.write_wav(path, audio.read_audio(flac.path, SAMPLE_RATE))
    return flac._replace(path=path, size=os.path.getsize(path))

  return from_wav


def _manifest_path(data_dir: str, name: str) -> str:
  """Name a manifest."""
  return os.path.join(data_dir, f"{name}.csv")
