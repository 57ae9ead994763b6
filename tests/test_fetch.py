"""Tests fetching against a server in this process that has every fault to order."""

import hashlib
import http.server
import os
import re
import resource
import signal
import subprocess
import sys
import threading

import archive_server
import numpy as np
import pytest

from data.corpora import fetch
from official_utils.misc.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONTENT = np.random.default_rng(0).bytes(400_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = fetch.Patience(attempts=3, pause=0.01, timeout=5.0)
FETCH = """
import sys
from data.corpora import fetch
fetch.fetch([sys.argv[1]], sys.argv[2], sys.argv[3] or None, fetch.Patience(3, 0.01, 5.0))
"""


@pytest.fixture
def served(monkeypatch):
  # Whatever proxy this machine uses, it does not lead to this server.
  monkeypatch.setenv("no_proxy", "*")
  with archive_server.serve({"/a.tar.gz": CONTENT}) as served:
    yield served


@pytest.fixture
def path(tmp_path):
  return tmp_path / "folder" / "a.tar.gz"


def get(served, path, checksum=MD5, urls=("/a.tar.gz",)):
  fetch.fetch([url if "://" in url else served.url + url for url in urls], str(path), checksum, HASTY)


def is_whole(path) -> bool:
  return os.listdir(path.parent) == ["a.tar.gz"] and path.read_bytes() == CONTENT


def fetch_command(served, path, checksum=MD5) -> list[str]:
  return [sys.executable, "-c", FETCH, f"{served.url}/a.tar.gz", str(path), checksum]


@pytest.mark.parametrize("checksum", [MD5, MD5.upper(), SHA256, None], ids=["md5", "upper case", "sha256", "none"])
def test_fetches_a_file_and_then_has_it(served, path, checksum, capsys):
  get(served, path, checksum)
  assert is_whole(path)
  shown = capsys.readouterr().err
  assert re.search(r"fetching a\.tar\.gz: 100%.* 400k/400k \[", shown)
  assert ("checking a.tar.gz: 100%" in shown) == (checksum is not None)
  get(served, path, checksum)
  assert served.requests("gz") == [(None, len(CONTENT))]


@pytest.mark.parametrize("there", [1, 1000, len(CONTENT) - 1, len(CONTENT)])
def test_goes_on_with_what_is_there(served, path, there):
  path.parent.mkdir()
  path.with_name("a.tar.gz.part").write_bytes(CONTENT[:there])
  get(served, path)
  assert is_whole(path)
  (request,) = served.requests("gz")
  assert request == ((f"bytes={there - 1}-" if there > 1 else None), len(CONTENT) - there + 1)


@pytest.mark.parametrize("there", [1, 1000, len(CONTENT)])
def test_goes_on_with_a_server_that_cannot_start_in_the_middle(served, path, there):
  served.ranges = False
  path.parent.mkdir()
  path.with_name("a.tar.gz.part").write_bytes(CONTENT[:there])
  get(served, path)
  assert is_whole(path)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_survives_connections_that_drop(served, path, ranges, capsys):
  """Far more often than it would ask in vain: each time brings something new."""
  served.ranges = ranges
  served.drop_after = [30_000 * (1 if ranges else number) for number in range(1, 11)]
  get(served, path)
  assert is_whole(path)
  assert len(served.requests("gz")) == 11
  assert "the connection ended after 30 kB of 400 kB; trying again in 0.01 s" in capsys.readouterr().err


def test_gives_up_on_a_server_that_brings_nothing_new_and_keeps_what_came(served, path):
  served.drop_after = [100_000] + [0] * 10
  with pytest.raises(UserError, match=r"connection ended after 100 kB of 400 kB.*the 100 kB that came are kept"):
    get(served, path)
  assert len(served.requests("gz")) == 1 + HASTY.attempts - 1
  assert os.listdir(path.parent) == ["a.tar.gz.part"]
  served.drop_after = []
  get(served, path)
  assert is_whole(path)


def test_takes_what_a_server_sends_that_does_not_tell_the_length(served, path):
  served.lengths = False
  get(served, path)
  assert is_whole(path)


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_asks_again_after_an_error_that_passes(served, path, status):
  served.statuses["/a.tar.gz"] = [status, status]
  get(served, path)
  assert is_whole(path)


def test_goes_from_mirror_to_mirror_and_keeps_what_each_has_sent(served, path):
  served.files["/half/a.tar.gz"] = CONTENT
  served.drop_after = [150_000, 0, 0]
  get(served, path, urls=["/missing/a.tar.gz", "http://127.0.0.1:1/a.tar.gz", "/half/a.tar.gz", "/a.tar.gz"])
  assert is_whole(path)
  assert len(served.requests("missing/a.tar.gz")) == 1
  assert served.log[-1] == ("/a.tar.gz", "bytes=149999-", 250_001)


def test_names_what_each_mirror_said(served, path):
  words = r"cannot fetch a\.tar\.gz \(.*/missing: HTTP 404 Not Found; http://127\.0\.0\.1:1/: Connection refused\)"
  with pytest.raises(UserError, match=words) as caught:
    get(served, path, urls=["/missing", "http://127.0.0.1:1/"])
  assert "\n" not in str(caught.value)
  assert os.listdir(path.parent) == []


@pytest.mark.parametrize("url", ["gopher://x/a", "nonsense", "http://127.0.0.1:port/", "http://a b/"])
def test_names_an_address_that_is_none(path, url):
  with pytest.raises(UserError, match="cannot fetch"):
    fetch.fetch([url], str(path), MD5, HASTY)


def test_gives_up_on_a_server_that_is_silent(served, path):
  served.stalled = threading.Event()
  served.drop_after = [1000, 0, 0]
  with pytest.raises(UserError, match=r"timed out.*the 1 kB that came are kept"):
    fetch.fetch([f"{served.url}/a.tar.gz"], str(path), MD5, HASTY._replace(timeout=0.2, attempts=2))


def test_refuses_a_wrong_checksum_and_leaves_nothing(served, path):
  with pytest.raises(UserError, match=f"wrong checksum, {'0' * 32} was expected"):
    get(served, path, "0" * 32)
  assert os.listdir(path.parent) == []
  assert len(served.requests("gz")) == 1


def test_takes_the_mirror_whose_checksum_is_right(served, path):
  served.files["/bad/a.tar.gz"] = CONTENT[::-1]
  get(served, path, urls=["/bad/a.tar.gz", "/a.tar.gz"])
  assert is_whole(path)


def test_starts_over_once_when_what_was_there_was_wrong(served, path):
  path.parent.mkdir()
  path.with_name("a.tar.gz.part").write_bytes(bytes(1000))
  get(served, path)
  assert is_whole(path)
  assert [asked for asked, _ in served.requests("gz")] == ["bytes=999-", None]


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_names_a_beginning_that_is_longer_than_the_file(served, path, ranges):
  """It may also be the server that is wrong, with a page to log in: so it stays."""
  served.ranges = ranges
  path.parent.mkdir()
  path.with_name("a.tar.gz.part").write_bytes(bytes(len(CONTENT) + 5))
  with pytest.raises(UserError, match="has .*less than the 400 kB .*remove"):
    get(served, path)
  assert os.listdir(path.parent) == ["a.tar.gz.part"]


def test_names_a_file_that_is_there_with_a_wrong_checksum(served, path):
  path.parent.mkdir()
  path.write_bytes(b"something else")
  with pytest.raises(UserError, match=f"{path}: its checksum is not {MD5}; remove it"):
    get(served, path)
  assert path.read_bytes() == b"something else"
  assert not served.log


def test_checks_the_room_before_the_first_byte(served, path):
  served.claimed["/a.tar.gz"] = 10**16
  with pytest.raises(UserError, match=r"no room: a\.tar\.gz takes 1e\+04 TB, its disk has .* free; make room"):
    get(served, path)
  assert os.listdir(path.parent) == []


def limit_file_size():
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_stops_at_a_limit_of_the_disk_and_goes_on_later(served, path):
  done = subprocess.run(
    fetch_command(served, path), cwd=ROOT, preexec_fn=limit_file_size, capture_output=True, text=True, timeout=60
  )
  assert "OSError: [Errno 27] File too large" in done.stderr
  assert os.listdir(path.parent) == ["a.tar.gz.part"]
  get(served, path)
  assert is_whole(path)
  assert served.requests("gz")[-1][0] is not None


@pytest.mark.parametrize("sent", [0, 1, 123_456, len(CONTENT) - 1])
def test_goes_on_after_kill_9(served, path, sent):
  served.stalled = threading.Event()
  served.drop_after = [sent]
  process = subprocess.Popen(fetch_command(served, path), cwd=ROOT, stderr=subprocess.PIPE)
  assert served.stalled.wait(60)
  part = path.with_name("a.tar.gz.part")
  while sent and not (part.exists() and part.stat().st_size == sent):
    assert process.poll() is None
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  get(served, path)
  assert is_whole(path)
  # The byte that is asked for twice is the price of never asking for nothing.
  assert served.requests("gz")[-1] == (f"bytes={sent - 1}-" if sent > 1 else None, len(CONTENT) - max(0, sent - 1))


@pytest.mark.parametrize("heads", [True, False])
def test_asks_for_the_size_without_fetching(served, heads):
  served.heads = heads
  assert fetch.remote_size([f"{served.url}/missing", f"{served.url}/a.tar.gz"], HASTY) == len(CONTENT)
  served.lengths = False
  assert fetch.remote_size([f"{served.url}/a.tar.gz"], HASTY) is None
  with pytest.raises(UserError, match=r"cannot reach .*HTTP 404.*; check the connection"):
    fetch.remote_size([f"{served.url}/missing"], HASTY)


def test_fetches_a_text_or_does_without(served):
  served.files["/text"] = "a\nü\n".encode()
  assert fetch.fetch_text(f"{served.url}/text") == "a\nü\n"
  assert fetch.fetch_text(f"{served.url}/missing") is None
  assert fetch.fetch_text("http://127.0.0.1:1/text") is None


def test_follows_a_redirection_with_the_position(served, path):
  class Redirect(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      self.send_response(302)
      self.send_header("Location", f"{served.url}/a.tar.gz")
      self.end_headers()

    def log_message(self, *_):
      pass

  path.parent.mkdir()
  path.with_name("a.tar.gz.part").write_bytes(CONTENT[:1000])
  with http.server.HTTPServer(("127.0.0.1", 0), Redirect) as server:
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    get(served, path, urls=[f"http://127.0.0.1:{server.server_address[1]}/"])
    thread.join()
  assert is_whole(path)
  assert served.requests("gz") == [("bytes=999-", len(CONTENT) - 999)]


@pytest.mark.parametrize(("num_bytes", "words"), [(10**17, "1e+05 TB"), (3 * 10**15, "3e+03 TB")])
def test_a_shortage_is_told_in_words(num_bytes, words, tmp_path):
  fetch.check_free_space(str(tmp_path), 0, "it")
  with pytest.raises(UserError, match=re.escape(f"it takes {words}")):
    fetch.check_free_space(str(tmp_path), num_bytes, "it")
