"""The network as a PyTorch user would write it; trains a step or transcribes files for each line on standard input.

Runs in its own environment, with PyTorch and nothing from this repository. PyTorch's GRU applies the reset gate after
the product, so its numbers differ from ours, but the sizes are the same. The only argument is JSON: the network's
flags, num_bins and num_classes; to train, learning_rate, threads, lengths (frames of each utterance) and label_counts,
and if need be device and number_format (fp32, tf32 or bf16); to transcribe, paths (16-bit WAV files), labels, the features' flags and seconds_at_once.
"""

import itertools
import json
import sys
import wave
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence

CELLS = {"gru": nn.GRU, "gru_reset_after": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
# (time, frequency) of each convolution's kernel and strides.
LAYOUTS = {"official": (((41, 11), (2, 2)), ((21, 11), (2, 1))), "paper": (((11, 41), (2, 2)), ((11, 21), (1, 2)))}
FILTERS = 32


class Network(nn.Module):
  """Two convolutions, recurrent layers with batch normalisation before all but the first, a dense layer."""

  def __init__(self, settings: dict):
    super().__init__()
    convolutions, channels, bins = [], 1, settings["num_bins"]
    self.layout = LAYOUTS[settings["conv_layout"]]
    for size, strides in self.layout:
      padding = (size[0] // 2, size[1] // 2)
      convolutions += [nn.Conv2d(channels, FILTERS, size, strides, padding, bias=False), nn.ReLU6()]
      convolutions.append(nn.BatchNorm2d(FILTERS))
      channels, bins = FILTERS, (bins - 1) // strides[1] + 1
    self.front_end = nn.Sequential(*convolutions)
    hidden, both = settings["rnn_hidden_size"], settings["is_bidirectional"]
    width = hidden * (2 if both else 1)
    depths = [bins * channels] + [width] * (settings["rnn_hidden_layers"] - 1)
    cell = CELLS[settings["rnn_type"]]
    self.recurrent = nn.ModuleList(cell(depth, hidden, batch_first=True, bidirectional=both) for depth in depths)
    self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in depths)
    self.dense = nn.Linear(width, settings["num_classes"], bias=settings["use_bias"])

  def forward(self, spectrograms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn [batch, 1, frames, bins] into log-probabilities [time, batch, classes], and their lengths."""
    for _, strides in self.layout:
      lengths = (lengths - 1) // strides[0] + 1
    images = self.front_end(spectrograms)
    steps = images.permute(0, 2, 1, 3).flatten(2)
    packed = pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
    for layer, norm in zip(self.recurrent, self.norms, strict=True):
      packed, _ = layer(packed)
      packed = PackedSequence(norm(packed.data), packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    outputs, _ = pad_packed_sequence(packed)
    return self.dense(outputs).log_softmax(2), lengths


class Transcriber:
  """A network with its initial weights, and the files that it transcribes."""

  def __init__(self, settings: dict):
    self.network = Network(settings).eval()
    self.paths, self.labels = settings["paths"], settings["labels"]
    rate = settings["sample_rate"]
    self.window_size, self.hop = (rate * settings[name] // 1000 for name in ("window_ms", "stride_ms"))
    self.window = torch.hann_window(self.window_size, periodic=False)
    self.batch_frames = settings["seconds_at_once"] * rate / self.hop
    self.scale = torch.full([settings["num_bins"], 1], 2 / (rate * self.window.square().sum()))
    self.scale[[0, -1]] /= 2

  @torch.inference_mode()
  def work(self) -> int:
    """Transcribe all files; return the number of letters."""
    features = [self.features(path) for path in self.paths]
    texts = [""] * len(features)
    for batch in self.batches([len(each) for each in features]):
      for index, text in zip(batch, self.transcribe([features[index] for index in batch]), strict=True):
        texts[index] = text
    return sum(map(len, texts))

  def features(self, path: str) -> torch.Tensor:
    """Read a file and compute its normalised spectrogram [frames, bins]."""
    with wave.open(path) as file:
      samples = torch.frombuffer(bytearray(file.readframes(file.getnframes())), dtype=torch.int16) / 32768
    spectrum = torch.stft(samples, self.window_size, self.hop, window=self.window, center=False, return_complex=True)
    values = torch.log(torch.view_as_real(spectrum).square().sum(2) * self.scale + 1e-14).T
    deviation, mean = torch.std_mean(values, 0, correction=0)
    return (values - mean) / (deviation + 1e-6)

  def batches(self, lengths: list[int]) -> Iterator[list[int]]:
    """Put clips of similar length into batches of limited duration, padding included."""
    batch = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
      if batch and (len(batch) + 1) * lengths[batch[0]] > self.batch_frames:
        yield batch
        batch = []
      batch.append(index)
    yield batch

  def transcribe(self, features: list[torch.Tensor]) -> Iterator[str]:
    """Transcribe a batch: the best label of each step, runs merged, blanks dropped."""
    lengths = torch.tensor([len(each) for each in features])
    log_probs, lengths = self.network(pad_sequence(features, batch_first=True)[:, None], lengths)
    for classes, length in zip(log_probs.argmax(2).T.tolist(), lengths.tolist(), strict=True):
      merged = [label for label, _ in itertools.groupby(classes[:length])]
      yield "".join(self.labels[label] for label in merged if label != len(self.labels) - 1)


class Trainer:
  """A network, its optimizer, and the batch of noise that it is trained on."""

  def __init__(self, settings: dict):
    self.device, number_format = settings.get("device", "cpu"), settings.get("number_format", "fp32")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = number_format == "tf32"
    self.is_half = number_format == "bf16"
    self.network = Network(settings).to(self.device)
    self.loss = nn.CTCLoss(blank=settings["num_classes"] - 1, reduction="sum", zero_infinity=True)
    self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings["learning_rate"])
    self.lengths, self.label_counts = torch.tensor(settings["lengths"]), torch.tensor(settings["label_counts"])
    batch_size = len(self.lengths)
    self.spectrograms = torch.randn(batch_size, 1, max(settings["lengths"]), settings["num_bins"], device=self.device)
    self.labels = torch.randint(0, settings["num_classes"] - 1, [batch_size, max(settings["label_counts"])])
    self.labels = self.labels.to(self.device)

  def work(self) -> float:
    """Train one step; return the loss."""
    self.optimizer.zero_grad()
    with torch.autocast(self.device, torch.bfloat16, enabled=self.is_half):
      log_probs, lengths = self.network(self.spectrograms, self.lengths)
    loss = self.loss(log_probs.float(), self.labels, lengths, self.label_counts) / len(self.lengths)
    loss.backward()
    self.optimizer.step()
    return loss.item()


def main() -> None:
  """Answer each line of standard input with the result of one more training step or transcription."""
  settings = json.loads(sys.argv[1])
  if settings.get("threads"):
    torch.set_num_threads(settings["threads"])
  torch.manual_seed(1)
  worker = (Transcriber if "paths" in settings else Trainer)(settings)
  print("ready", flush=True)
  for _ in sys.stdin:
    print(worker.work(), flush=True)


if __name__ == "__main__":
  main()
