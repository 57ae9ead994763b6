"""A server of files on the loopback interface, with faults to order, and archives in LibriSpeech's layout to serve."""

import contextlib
import hashlib
import http.server
import io
import re
import tarfile
import threading
from dataclasses import dataclass, field

import numpy as np
import soundfile

SAMPLE_RATE = 16000
WORDS = ["THE", "QUICK", "BROWN", "FOX'S", "JUMP", "OVER", "LAZY", "DOGS"]


@dataclass
class Served:
  """What a server holds and how it behaves.

  Attributes:
    files: path -> content.
    ranges: whether it can begin in the middle.
    lengths: whether it tells how long an answer is.
    drop_after: the body bytes that each of the next answers with a body gets before the connection is cut; None for all.
    statuses: path -> status to answer in place of the file, one a request.
    claimed: path -> length to claim in place of the true one.
    stalled: if given, a cut answer does not end: this is set, and it waits for `release`.
    release: see there.
    heads: whether it answers HEAD requests.
    log: (path, Range header, body bytes to be sent) of each answered request; HEAD
      stands for the Range header of such ones.
    url: where it listens.
  """

  files: dict[str, bytes] = field(default_factory=dict)
  ranges: bool = True
  heads: bool = True
  lengths: bool = True
  drop_after: list[int | None] = field(default_factory=list)
  statuses: dict[str, list[int]] = field(default_factory=dict)
  claimed: dict[str, int] = field(default_factory=dict)
  stalled: threading.Event | None = None
  release: threading.Event = field(default_factory=threading.Event)
  log: list[tuple[str, str | None, int]] = field(default_factory=list)
  url: str = ""

  def requests(self, ending: str) -> list[tuple[str | None, int]]:
    return [(asked, sent) for path, asked, sent in self.log if path.endswith(ending) and asked != "HEAD"]


@contextlib.contextmanager
def serve(files: dict[str, bytes]):
  """Run a server in a thread; the value is its Served."""
  served = Served(dict(files))

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      answer(self, served)

    def do_HEAD(self):
      answer_head(self, served)

    def log_message(self, *_):
      pass

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  server.daemon_threads = True
  served.url = f"http://127.0.0.1:{server.server_address[1]}"
  thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
  thread.start()
  try:
    yield served
  finally:
    served.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def answer_head(handler: http.server.BaseHTTPRequestHandler, served: Served) -> None:
  served.log.append((handler.path, "HEAD", 0))
  if not served.heads or handler.path not in served.files:
    handler.send_error(404 if served.heads else 501)
    return
  handler.send_response(200)
  if served.lengths:
    length = served.claimed.get(handler.path, len(served.files[handler.path]))
    handler.send_header("Content-Length", str(length))
  handler.end_headers()


def answer(handler: http.server.BaseHTTPRequestHandler, served: Served) -> None:
  path, asked = handler.path, handler.headers.get("Range")
  content = served.files.get(path)
  statuses = served.statuses.get(path)
  if statuses or content is None:
    served.log.append((path, asked, 0))
    handler.send_error(statuses.pop(0) if statuses else 404)
    return
  start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and served.ranges else 0
  if start >= len(content) > 0:
    served.log.append((path, asked, 0))
    handler.send_response(416)
    handler.send_header("Content-Range", f"bytes */{len(content)}")
    handler.end_headers()
    return
  handler.send_response(206 if start else 200)
  if start:
    handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
  if served.lengths:
    handler.send_header("Content-Length", str(served.claimed.get(path, len(content)) - start))
  limit = served.drop_after.pop(0) if served.drop_after and path.endswith("gz") else None
  body = content[start:][:limit]
  # Before the client can know of it.
  served.log.append((path, asked, len(body)))
  # A client that has seen enough of the header hangs up.
  with contextlib.suppress(ConnectionError):
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()
  if limit is not None and served.stalled:
    served.stalled.set()
    served.release.wait()


def make_flac(num_samples: int, rng: np.random.Generator) -> bytes:
  """Encode noise."""
  buffer = io.BytesIO()
  noise = rng.integers(-2000, 2000, num_samples, dtype=np.int16)
  soundfile.write(buffer, noise, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
  return buffer.getvalue()


def make_subset(subset: str, seed: int, num_utterances: int = 3, lengths: tuple[int, ...] = ()) -> dict[str, bytes]:
  """Make the files of a subset in the published layout, two speakers with two chapters each.

  Args:
    subset: for instance "dev-clean".
    seed: of lengths, noise and transcripts.
    num_utterances: a chapter.
    lengths: samples of the first utterances; the others are drawn, some alike.
  """
  rng = np.random.default_rng(seed)
  wanted = list(lengths)
  contents = {"LibriSpeech/README.TXT": b"about\n", "LibriSpeech/SPEAKERS.TXT": b"; ID\n"}
  for speaker in (f"{seed}9", f"{seed}103"):
    for chapter in ("1240", "227"):
      folder = f"LibriSpeech/{subset}/{speaker}/{chapter}"
      lines = []
      for number in range(num_utterances):
        name = f"{speaker}-{chapter}-{number:04d}"
        num_samples = wanted.pop() if wanted else int(rng.integers(8, 12)) * 200
        contents[f"{folder}/{name}.flac"] = make_flac(num_samples, rng)
        lines.append(f"{name} {' '.join(rng.choice(WORDS, rng.integers(1, 5)))}\n")
      contents[f"{folder}/{speaker}-{chapter}.trans.txt"] = "".join(lines).encode()
  return contents


def make_tar(contents: dict[str, bytes], mode: str = "w:gz") -> bytes:
  """Pack files with their folders, as `tar` does."""
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode=mode) as tar:
    folders = set()
    for name, content in contents.items():
      parts = name.split("/")[:-1]
      for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if folder not in folders:
          folders.add(folder)
          info = tarfile.TarInfo(folder)
          info.type = tarfile.DIRTYPE
          info.mode = 0o755
          tar.addfile(info)
      info = tarfile.TarInfo(name)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  return buffer.getvalue()


def publish(subsets: dict[str, bytes], number: int = 12) -> dict[str, bytes]:
  """Lay archives out as the mirrors do, with the list of their checksums."""
  lines = [f"{hashlib.md5(content).hexdigest()}  {name}.tar.gz\n" for name, content in subsets.items()]
  files = {f"/{number}/{name}.tar.gz": content for name, content in subsets.items()}
  return files | {f"/{number}/md5sum.txt": "".join(lines).encode()}
