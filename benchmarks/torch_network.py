"""The network as a PyTorch user would write it, trained a step for each line on standard input.

Runs in an environment of its own, which has PyTorch and nothing of this repository. PyTorch's GRU applies the reset gate
after the product, so its numbers are not ours; the sizes are. The only argument is JSON: the network's flags, num_bins,
num_classes, learning_rate, threads, lengths (frames of each utterance) and label_counts.
"""

import json
import sys

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

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


class Trainer:
  """A network, its optimizer, and the batch of noise that it is trained on."""

  def __init__(self, settings: dict):
    torch.manual_seed(1)
    self.network = Network(settings)
    self.loss = nn.CTCLoss(blank=settings["num_classes"] - 1, reduction="sum", zero_infinity=True)
    self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings["learning_rate"])
    self.lengths, self.label_counts = torch.tensor(settings["lengths"]), torch.tensor(settings["label_counts"])
    batch_size = len(self.lengths)
    self.spectrograms = torch.randn(batch_size, 1, max(settings["lengths"]), settings["num_bins"])
    self.labels = torch.randint(0, settings["num_classes"] - 1, [batch_size, max(settings["label_counts"])])

  def step(self) -> float:
    """Train one step; return the loss."""
    self.optimizer.zero_grad()
    log_probs, lengths = self.network(self.spectrograms, self.lengths)
    loss = self.loss(log_probs, self.labels, lengths, self.label_counts) / len(self.lengths)
    loss.backward()
    self.optimizer.step()
    return loss.item()


def main() -> None:
  """Answer each line of standard input with the loss of one more step."""
  settings = json.loads(sys.argv[1])
  if settings["threads"]:
    torch.set_num_threads(settings["threads"])
  trainer = Trainer(settings)
  print("ready", flush=True)
  for _ in sys.stdin:
    print(trainer.step(), flush=True)


if __name__ == "__main__":
  main()
