"""Divides utterances into a training set and others: by chance, a speaker's utterances together if wanted."""

import os
import random
import re

# Where corpora keep the speaker: in the file's name, or in that of a folder above it.
SPEAKER_FORMS = (
  re.compile(r"(?:^|/)(\d+)-\d+-\d+\.\w+$"),  # LibriSpeech: 19-198-0001.flac
  re.compile(r"(?:^|/)([FM]\d+)_b\d+_w\d+\w*\.\w+$"),  # the Modified Rhyme Test: F1_b10_w2.wav
  re.compile(r"(?:^|/)\w+-(\w+)-b\.\w+$"),  # AN4: an251-fash-b.wav
  re.compile(r"(?:^|/)([^/]+)-\d{8}-\w+/(?:wav|flac)/[^/]+$"),  # VoxForge: Aaron-20080318-kdl/wav/a0001.wav
)


def speaker_of(path: str) -> str | None:
  """Tell the speaker from the path of a recording; None if no known corpus names its files like that."""
  path = path.replace(os.sep, "/")
  return next((match.group(1) for form in SPEAKER_FORMS if (match := form.search(path))), None)


def draw_parts(groups: dict[str, list], shares: dict[str, float], seed: int) -> dict[str, list]:
  """Divide utterances by chance without dividing any group.

  Args:
    groups: the utterances of each group, for instance of each speaker. Their order changes nothing.
    shares: the share of each part but "train", which gets the rest.
    seed: the same seed draws the same groups.

  Returns:
    The utterances of each part.
  """
  names = sorted(groups)
  random.Random(seed).shuffle(names)
  num_utterances = sum(map(len, groups.values()))
  parts: dict[str, list] = {"train": []}
  for part, share in shares.items():
    parts[part] = []
    # A part that is asked for gets at least one utterance, however few there are.
    wanted = max(1, round(share * num_utterances)) if share else 0
    while names and len(parts[part]) < wanted:
      parts[part] += groups[names.pop()]
  parts["train"] = [utterance for name in names for utterance in groups[name]]
  return parts
