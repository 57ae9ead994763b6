"""Tests how features are drawn, and PNG files by a reader of their own."""

import struct
import zlib

import hypothesis
import numpy as np
from hypothesis import strategies as st

from data.augmentation import pictures


def read_png(content: bytes) -> np.ndarray:
  """Read a PNG file of three channels of 8 bits, without differences between bytes, by the words of its definition."""
  assert content[:8] == b"\x89PNG\r\n\x1a\n"
  chunks, rest = {}, content[8:]
  while rest:
    (length,) = struct.unpack(">I", rest[:4])
    kind, data = rest[4:8], rest[8 : 8 + length]
    assert struct.unpack(">I", rest[8 + length : 12 + length])[0] == zlib.crc32(kind + data)
    chunks[kind], rest = data, rest[12 + length :]
  assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
  width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
  assert form == [8, 2, 0, 0, 0]
  rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
  assert not rows[:, 0].any()
  return rows[:, 1:].reshape(height, width, 3)


@hypothesis.given(height=st.integers(1, 30), width=st.integers(1, 30), seed=st.integers(0, 99))
@hypothesis.settings(max_examples=20)
def test_a_picture_can_be_read_again(tmp_path_factory, height, width, seed):
  picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
  path = tmp_path_factory.mktemp("pictures") / "a.png"
  pictures.write_png(str(path), picture)
  np.testing.assert_array_equal(read_png(path.read_bytes()), picture)


def test_time_goes_right_and_frequencies_up():
  features = np.zeros([5, 3])
  features[4, 0] = 1
  drawn = pictures.draw_features(features, 0, 1)
  scale = pictures.SCALE
  assert drawn.shape == (3 * scale, 5 * scale, 3)
  bright = drawn.sum(axis=2) > 300
  assert bright[-scale:, -scale:].all() and bright.sum() == scale**2


def test_loud_is_brighter_and_what_lies_outside_is_at_the_ends():
  drawn = pictures.draw_features(np.array([[-9.0], [0], [1], [2], [3], [4], [9]]), 0, 4)[0, :: pictures.SCALE]
  np.testing.assert_array_equal(drawn[0], drawn[1])
  np.testing.assert_array_equal(drawn[-1], drawn[-2])
  assert (np.diff(drawn[1:-1].astype(int).sum(axis=1)) > 0).all()


def test_pictures_stand_below_each_other():
  first, second = np.full([2, 3, 3], 7, np.uint8), np.full([4, 5, 3], 9, np.uint8)
  stacked = pictures.stack([first, second])
  assert stacked.shape == (2 + pictures.GAP + 4, 5, 3)
  np.testing.assert_array_equal(stacked[:2, :3], first)
  np.testing.assert_array_equal(stacked[-4:], second)
  assert (stacked[:2, 3:] == 255).all() and (stacked[2:-4] == 255).all()
