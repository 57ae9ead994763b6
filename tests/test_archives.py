"""Tests unpacking: good archives of every kind come out whole, bad ones leave nothing, wherever a process dies."""

import bz2
import gzip
import io
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import zipfile

import archive_server
import numpy as np
import pytest

from data.corpora import archives
from official_utils.misc.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOISE = np.random.default_rng(0).bytes(1_200_000)
CONTENTS = {"top/a.txt": b"a", "top/sub/noise.bin": NOISE, "top/sub/empty": b"", "b.txt": b"b"}


def make_zip(contents, compression=zipfile.ZIP_DEFLATED) -> bytes:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w", compression) as archive:
    archive.writestr("folder/", b"")
    for name, content in contents.items():
      archive.writestr(name, content)
  return buffer.getvalue()


def make_tar_with(**fields) -> bytes:
  """A good file, then a member with the given fields, then another good file."""
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
    for name in ("first", None, "last"):
      info = tarfile.TarInfo(name or "strange")
      if name is None:
        for key, value in fields.items():
          setattr(info, key, value)
      tar.addfile(info, io.BytesIO(b""))
  return buffer.getvalue()


def files_below(folder) -> dict[str, bytes]:
  return {
    os.path.relpath(os.path.join(parent, name), folder): open(os.path.join(parent, name), "rb").read()
    for parent, _, names in os.walk(folder)
    for name in names
  }


def run_python(program: str, *arguments) -> subprocess.CompletedProcess:
  command = [sys.executable, "-c", program, *arguments]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def refuse(tmp_path, content: bytes, words: str) -> None:
  """Unpack what must be refused, and see that nothing has come of it anywhere."""
  place = tmp_path / "deep" / "place"
  place.mkdir(parents=True)
  archive = tmp_path / "archive.tar.gz"
  archive.write_bytes(content)
  with pytest.raises(UserError, match=words) as caught:
    archives.unpack(str(archive), str(place / "out"))
  assert str(caught.value).startswith(str(archive)) and "\n" not in str(caught.value)
  assert files_below(tmp_path) == {"archive.tar.gz": content}
  assert os.listdir(place) == []


@pytest.mark.parametrize(
  "content",
  [
    archive_server.make_tar(CONTENTS, "w:"),
    archive_server.make_tar(CONTENTS, "w:gz"),
    archive_server.make_tar(CONTENTS, "w:bz2"),
    archive_server.make_tar(CONTENTS, "w:xz"),
    make_zip(CONTENTS),
    make_zip(CONTENTS, zipfile.ZIP_STORED),
  ],
  ids=["tar", "gzip", "bzip2", "xz", "zip", "stored zip"],
)
def test_unpacks_any_kind_once(content, tmp_path):
  archive, folder = tmp_path / "archive", tmp_path / "out"
  archive.write_bytes(content)
  assert not archives.is_unpacked(str(folder))
  assert archives.unpack(str(archive), str(folder))
  assert archives.is_unpacked(str(folder))
  assert files_below(folder) == CONTENTS | {archives.MARKER: b"archive\n"}
  assert sorted(os.listdir(tmp_path)) == ["archive", "out"]
  # A second time there is nothing to do, not even the archive is needed.
  archive.unlink()
  assert not archives.unpack(str(archive), str(folder))


def test_leaves_modes_and_owners_of_the_archive_alone(tmp_path):
  (tmp_path / "a.tar").write_bytes(make_tar_with(mode=0o6777, uid=4711, gid=4711))
  archives.unpack(str(tmp_path / "a.tar"), str(tmp_path / "out"))
  status = os.stat(tmp_path / "out" / "strange")
  assert (status.st_mode & 0o7111, status.st_uid) == (0, os.getuid())


def test_does_not_touch_a_folder_that_it_did_not_make(tmp_path):
  (tmp_path / "a.tar").write_bytes(archive_server.make_tar(CONTENTS))
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "mine").write_text("mine")
  with pytest.raises(UserError, match="is in the way"):
    archives.unpack(str(tmp_path / "a.tar"), str(tmp_path / "out"))
  assert files_below(tmp_path / "out") == {"mine": b"mine"}


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ({"name": "../evil"}, r"'\.\./evil', which leads out"),
    ({"name": "sub/../../evil"}, "leads out"),
    ({"name": "sub/.."}, "leads out"),
    ({"name": "/tmp/evil"}, r"'/tmp/evil', which leads out"),
    ({"name": "..\\evil"}, "leads out"),
    ({"name": "C:evil"}, "leads out"),
    ({"name": "sub/..", "type": tarfile.DIRTYPE}, "leads out"),
    ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a symbolic link"),
    ({"type": tarfile.SYMTYPE, "linkname": "first"}, "a symbolic link"),
    ({"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, "a hard link"),
    ({"type": tarfile.LNKTYPE, "linkname": "first"}, "a hard link"),
    ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "a device"),
    ({"type": tarfile.BLKTYPE, "devmajor": 8}, "a device"),
    ({"type": tarfile.FIFOTYPE}, "a device"),
    ({"type": b"Z"}, "unknown type"),
    ({"name": "first"}, "holds 'first' twice"),
    ({"name": "first/below"}, "holds 'first.*' twice"),
    ({"name": archives.MARKER}, "which is not a valid file name"),
    ({"name": "."}, "which is not a valid file name"),
  ],
)
def test_refuses_a_malicious_tar(fields, words, tmp_path):
  refuse(tmp_path, make_tar_with(**fields), words)


@pytest.mark.parametrize(
  ("name", "mode", "words"),
  [
    ("../evil", 0o100644, "leads out"),
    ("/tmp/evil", 0o100644, "leads out"),
    ("link", 0o120777, "a symbolic link"),
    ("pipe", 0o010644, "a device"),
    ("null", 0o020644, "a device"),
  ],
)
def test_refuses_a_malicious_zip(name, mode, words, tmp_path):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as archive:
    archive.writestr("first", b"good")
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    archive.writestr(info, b"/etc/passwd")
  refuse(tmp_path, buffer.getvalue(), words)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kept", [1 / 1000, 0.3, 0.9, "all but the end"])
def test_refuses_a_truncated_tar(compress, kept, tmp_path):
  tar = archive_server.make_tar(CONTENTS, "w:")
  if kept == "all but the end":
    # Cut exactly where a further file could begin: nothing but the missing end tells.
    end = tar.rstrip(b"\0")
    content = compress(tar[: -(-len(end) // 512) * 512])
  else:
    whole = compress(tar)
    content = whole[: int(len(whole) * kept)]
  refuse(tmp_path, content, "is damaged or cut short")


@pytest.mark.parametrize("kept", [0.3, 0.999])
def test_refuses_a_truncated_zip(kept, tmp_path):
  content = make_zip(CONTENTS)
  refuse(tmp_path, content[: int(len(content) * kept)], "is damaged or cut short")


@pytest.mark.parametrize("make", [gzip.compress, bz2.compress, lzma.compress, "zip"])
@pytest.mark.parametrize("place", [0.05, 0.5, 0.95])
def test_refuses_a_corrupted_archive(make, place, tmp_path):
  content = make_zip(CONTENTS) if make == "zip" else make(archive_server.make_tar(CONTENTS, "w:"))
  damaged = bytearray(content)
  for at in range(int(len(content) * place), int(len(content) * place) + 40):
    damaged[at] ^= 0x5A
  refuse(tmp_path, bytes(damaged), "is damaged or cut short")


def test_refuses_a_tar_with_a_damaged_header_and_what_is_no_archive(tmp_path):
  damaged = bytearray(archive_server.make_tar(CONTENTS, "w:"))
  damaged[damaged.index(b"b.txt")] ^= 1
  refuse(tmp_path, bytes(damaged), "is damaged or cut short")


def test_refuses_what_is_no_archive(tmp_path):
  refuse(tmp_path, b"<html>Please log in</html>" * 100, "is damaged or cut short")


def with_number(content: bytes, magic: bytes, offset: int, number: int, size: int) -> bytes:
  """Put a number behind the last place where some bytes of a zip archive stand."""
  at = content.rindex(magic) + offset
  return content[:at] + number.to_bytes(size, "little") + content[at + size :]


CENTRAL, END = b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(
  ("content", "words"),
  [
    (with_number(make_zip(CONTENTS), END, 16, 2**32 - 2, 4), "is damaged or cut short"),
    (with_number(make_zip(CONTENTS), CENTRAL, 42, 2**32 - 2, 4), "is damaged or cut short"),
    (with_number(make_zip(CONTENTS), CENTRAL, 10, 9, 2), "cannot be unpacked here .*; unpack it with another program"),
    (with_number(make_zip(CONTENTS), CENTRAL, 6, 200, 2), "cannot be unpacked here .*; unpack it with another program"),
    (make_tar_with(name="x" * 300), "holds a name that is too long, 'x+'"),
    (
      make_tar_with(pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x"}),
      "is damaged or cut short",
    ),
  ],
  ids=["no directory", "no member", "unknown compression", "unknown version", "long name", "sparse without a map"],
)
def test_refuses_numbers_and_names_that_make_no_sense(content, words, tmp_path):
  refuse(tmp_path, content, words)


# Kills itself with -9 at the given change of the file system, before it happens.
KILLED = """
import os, signal, sys
from data.corpora import archives
left = int(sys.argv[3])
def watch(event, arguments):
  global left
  changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
  if changes or (event == "open" and arguments[1] is not None and set("wxa") & set(str(arguments[1]))):
    left -= 1
    if not left:
      os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
archives.unpack(sys.argv[1], sys.argv[2])
"""


def test_a_killed_run_leaves_no_folder_and_the_next_one_makes_it_whole(tmp_path):
  archive, folder = tmp_path / "archive", tmp_path / "out"
  archive.write_bytes(archive_server.make_tar(CONTENTS))
  for left in range(1, 100):
    done = run_python(KILLED, archive, folder, str(left))
    if done.returncode == 0:
      break
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not folder.exists()
  assert left > len(CONTENTS)
  assert files_below(folder) == CONTENTS | {archives.MARKER: b"archive\n"}
  assert sorted(os.listdir(tmp_path)) == ["archive", "out"]


def test_what_was_written_goes_when_interrupted(tmp_path):
  """The file size limit strikes in the middle of a file, as a full disk does."""
  archive = tmp_path / "archive"
  archive.write_bytes(archive_server.make_tar(CONTENTS))
  program = (
    "import resource, sys\n"
    "from data.corpora import archives\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    "archives.unpack(*sys.argv[1:])\n"
  )
  done = run_python(program, archive, tmp_path / "out")
  assert "OSError: [Errno 27] File too large" in done.stderr
  assert os.listdir(tmp_path) == ["archive"]
