"""The networks by name: how each is made, how long its output is, and how much time a step covers.

A network is a module with three functions, and a line here:

- `make_network(settings, num_classes, **execution)`: like `make_network` below, for its own class of settings;
- `compute_output_length(num_frames, settings)`: the exact number of output steps, for numbers, arrays and tensors;
- `count_frames_per_step(settings)`: the frames from one output step to the next.
"""

import dataclasses
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import deep_speech_model
import speech_net_model
from settings import DeepSpeech2Settings, ModelSettings, NetworkSettings, SpeechNetSettings

_MODULES: dict[type[NetworkSettings], ModuleType] = {
  DeepSpeech2Settings: deep_speech_model,
  SpeechNetSettings: speech_net_model,
}


def make_network(settings: NetworkSettings, num_classes: int, **execution: Any) -> Callable:
  """Make the network that the settings describe.

  Args:
    settings: the network's.
    num_classes: output classes, the blank (last) included.
    **execution: options that may differ between two runs of one model: `rnn_kernel` (one of `layers.cudnn.RNN_KERNELS`),
      `devices` (of the replicas), `compute_dtype` (the number format of products; None for the inputs' own).

  Returns:
    A function of (features [batch, frames, bins, 1], lengths [batch] in frames, training) that makes its variables in
    the current graph and returns logits [batch, steps, classes] and their lengths [batch].
  """
  return _MODULES[type(settings)].make_network(settings, num_classes, **execution)


def with_masks(settings: NetworkSettings) -> NetworkSettings:
  """Return the same settings with padding kept out of every result."""
  return dataclasses.replace(settings, mask_padding=True)


def output_length(settings: NetworkSettings) -> Callable[[Any], Any]:
  """Return the function from a number of frames (an integer, array or tensor) to the number of output steps."""
  return functools.partial(_MODULES[type(settings)].compute_output_length, settings=settings)


def step_seconds(settings: ModelSettings) -> float:
  """Compute the time from one output step to the next, in seconds."""
  frames = _MODULES[type(settings.network)].count_frames_per_step(settings.network)
  return frames * settings.features.frame_seconds
