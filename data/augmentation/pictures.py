"""Draws features as pictures, and writes them as PNG files."""

import struct
import zlib

import numpy as np

# Colours from quiet to loud, evenly spaced: black, violet, red, orange, pale yellow.
COLORS = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float64)
# Rows of white between two pictures.
GAP = 8
# Pixels for each value, both ways.
SCALE = 2


def draw_features(features: np.ndarray, low: float, high: float) -> np.ndarray:
  """Draw features, time from left to right, low frequencies at the bottom.

  Args:
    features: float [frames, bins].
    low: the value that is black, as are those below it.
    high: the value of the brightest colour.

  Returns:
    uint8 [bins * SCALE, frames * SCALE, 3].
  """
  places = np.clip((features.T[::-1] - low) / (high - low), 0, 1) * (len(COLORS) - 1)
  channels = [np.interp(places, range(len(COLORS)), channel) for channel in COLORS.T]
  return np.stack(channels, axis=-1).astype(np.uint8).repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def stack(pictures: list[np.ndarray]) -> np.ndarray:
  """Put pictures, uint8 [height, width, 3] each, below each other; narrower ones have white on their right."""
  width = max(picture.shape[1] for picture in pictures)
  rows = [
    np.pad(picture, ((0, GAP), (0, width - picture.shape[1]), (0, 0)), constant_values=255) for picture in pictures
  ]
  return np.concatenate(rows)[:-GAP]


def write_png(path: str, picture: np.ndarray) -> None:
  """Write a picture of 8 bits a channel as a PNG file.

  Such a file is a signature and three chunks: the header (size, 8 bits, colour type 2: red, green and blue), all rows
  compressed in one, each after a 0 (its bytes are no differences), and an empty end.

  Args:
    path: the file.
    picture: uint8 [height, width, 3].
  """
  height, width, _ = picture.shape
  rows = np.zeros((height, 1 + 3 * width), np.uint8)
  rows[:, 1:] = picture.reshape(height, -1)
  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  chunks = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes())), _chunk(b"IEND", b"")]
  with open(path, "wb") as file:
    file.write(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _chunk(kind: bytes, content: bytes) -> bytes:
  """Make a chunk: the content's length, its kind, the content, and the checksum of both."""
  return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
