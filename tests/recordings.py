"""Writes recordings for tests, each of its own samples."""

import os
import zlib

import numpy as np
import soundfile


def samples_of(name: str, seconds: float, rate: int) -> np.ndarray:
  """Make int16 [samples] that depend on the name."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  return np.cumsum(rng.integers(-90, 91, round(seconds * rate))).clip(-30000, 30000).astype(np.int16)


def write(path, seconds: float = 0.3, rate: int = 16000, **kwargs) -> np.ndarray:
  """Write a recording in the format that its name ends with, and return its samples."""
  os.makedirs(os.path.dirname(path), exist_ok=True)
  samples = samples_of(os.path.basename(path), seconds, rate)
  soundfile.write(path, samples, rate, **kwargs)
  return samples


def write_text(path, text: str) -> str:
  """Write a file, and its folder if need be; return its path."""
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, "w", encoding="utf-8", newline="\n") as file:
    file.write(text)
  return str(path)


def transcripts(manifests: dict[str, str]) -> dict[str, dict[str, str]]:
  """Read manifests: for each, the transcript by the name of the recording."""
  from data.manifest import read_manifest

  return {
    name: {os.path.basename(entry.path): entry.transcript for entry in read_manifest(path)}
    for name, path in manifests.items()
  }
