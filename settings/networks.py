"""The settings of each network."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import ClassVar

from official_utils.misc.errors import UserError
from settings.declaration import Settings, setting


@dataclasses.dataclass(frozen=True)
class NetworkSettings(Settings):
  """The settings that all networks share."""

  mask_padding: bool = setting(
    True,
    """Whether to keep the padding of a batch out of every result. With --nomask_padding the network computes as the
    original does: the result of an utterance depends on the length of the others in the batch.""",
  )

  # For a setting, those that it takes the place of if it is not empty.
  replaces: ClassVar[Mapping[str, tuple[str, ...]]] = {}

  def refuse_replaced(self, given: Collection[str]) -> None:
    """Refuse settings that another one replaces.

    Args:
      given: the names of the settings that were chosen.
    """


@dataclasses.dataclass(frozen=True)
class DeepSpeech2Settings(NetworkSettings):
  """DeepSpeech2: two convolutions, a recurrent stack and a dense layer."""

  kind = "deep_speech"
  replaces = {"rnn_sizes": ("rnn_hidden_layers", "rnn_hidden_size")}

  rnn_type: str = setting(
    "gru",
    """The kind of the recurrent layers. 'gru' is the original's; 'gru_reset_after' applies the reset gate after the
    product with the state, like cuDNN.""",
    choices=("lstm", "rnn", "gru", "gru_reset_after"),
    case_sensitive=False,
  )
  rnn_hidden_layers: int = setting(5, "The number of recurrent layers.", at_least=1)
  rnn_hidden_size: int = setting(800, "The units of a recurrent layer, in each direction.", at_least=1)
  is_bidirectional: bool = setting(True, "Whether the recurrent layers read an utterance backwards as well.")
  use_bias: bool = setting(True, "Whether the last, fully connected layer has a bias.")
  conv_layout: str = setting(
    "official",
    """The kernels of the convolutions: 'official' takes 4 frames per output step; 'paper' takes 2, like the paper,
    which leaves room for doubled letters and costs more time.""",
    choices=("official", "paper"),
  )
  conv_padding: str = setting(
    "symmetric",
    """Where convolutions read zeros: 'symmetric', half a kernel on each side; 'same', only as many as the output needs,
    the odd one at the end. In time, 'same' goes by the length of the padded batch, so that it differs with
    --nomask_padding only.""",
    choices=("symmetric", "same"),
  )
  conv_bias: bool = setting(False, "Whether the convolutions have a bias.")
  conv_activation: str = setting(
    "relu6",
    "What follows a convolution, before the normalisation: 'relu6' clips to 0 to 6, 'linear' is nothing.",
    choices=("relu6", "linear"),
  )
  time_subsampling: int = setting(
    0,
    """The frames of an output step: 1, 2 or 4; the first convolution takes the first two, the second the others. 0 takes
    those of the conv_layout.""",
    at_least=0,
  )
  normalization: str = setting(
    "batch",
    """What normalises each convolution and what recurrent and last layers read: 'batch' shifts and scales each feature
    over all steps of a batch, 'layer' each step over all its features.""",
    choices=("batch", "layer"),
  )
  norm_momentum: float = setting(
    0.997, "The share of its moving averages that batch normalisation keeps in a step; below 1.", at_least=0, below=1
  )
  rnn_sizes: str = setting(
    "",
    """The units of each recurrent layer, separated by commas, such as 512,512,256, in place of rnn_hidden_layers and
    rnn_hidden_size. Empty: those decide.""",
  )
  rnn_merge: str = setting(
    "concat",
    "How the two directions of a recurrent layer are joined: 'concat' side by side, 'sum' added up.",
    choices=("concat", "sum"),
  )
  rnn_residual: bool = setting(
    False, "Whether to add a recurrent layer's input to its output, where both have the same size."
  )
  rnn_activation: str = setting(
    "tanh",
    "The activation of recurrent cells: of the candidate (gru), of candidate and output (lstm), of the sum (rnn).",
    choices=("tanh", "relu"),
  )
  rnn_gate_activation: str = setting(
    "sigmoid",
    "The activation of the gates of recurrent cells; 'hard_sigmoid' is 0.2 x + 0.5, clipped to 0 to 1.",
    choices=("sigmoid", "hard_sigmoid"),
  )
  rnn_init: str = setting(
    "glorot",
    """How recurrent layers begin: 'glorot' as in the original; 'orthogonal' with orthogonal matrices for the state and no
    bias but the 1 of an lstm's forget gate.""",
    choices=("glorot", "orthogonal"),
  )
  row_conv_width: int = setting(
    0,
    """The steps that a convolution after the last recurrent layer sees: its own and those after it. It needs
    --nois_bidirectional. 0 has none.""",
    at_least=0,
  )
  fc_units: int = setting(0, "The units of a dense layer with relu before the last layer; 0 has none.", at_least=0)
  dropout: float = setting(
    0.0,
    """The share of the outputs of each recurrent layer and of the layer of fc_units that training sets to zero, the same
    ones in all steps of an utterance; below 1.""",
    at_least=0,
    below=1,
  )

  def __post_init__(self) -> None:
    """Refuse values and combinations of values that make no network."""
    super().__post_init__()
    if self.time_subsampling not in (0, 1, 2, 4):
      raise UserError(f"--time_subsampling={self.time_subsampling} is out of range; give 0, 1, 2 or 4")
    if not re.fullmatch(r"([1-9]\d*(,[1-9]\d*)*)?", self.rnn_sizes, re.ASCII):
      raise UserError(
        f"--rnn_sizes={self.rnn_sizes} is no list of whole numbers from 1 on; give one such as --rnn_sizes=512,256"
      )
    if self.row_conv_width and self.is_bidirectional:
      raise UserError(
        f"--row_conv_width={self.row_conv_width} is for layers that do not read backwards; give --nois_bidirectional, "
        "or leave it out"
      )
    self.refuse_replaced([each.name for each in self.declarations() if getattr(self, each.name) != each.default])

  def refuse_replaced(self, given: Collection[str]) -> None:
    """Refuse the number and the size of recurrent layers beside their list; see `NetworkSettings.refuse_replaced`."""
    for name in self.replaces["rnn_sizes"]:
      if self.rnn_sizes and name in given:
        raise UserError(
          f"--rnn_sizes={self.rnn_sizes} and --{name}={getattr(self, name)} disagree, and both say how large the "
          "recurrent layers are; give one of them"
        )

  @property
  def layer_sizes(self) -> tuple[int, ...]:
    """The units of each recurrent layer."""
    if self.rnn_sizes:
      return tuple(map(int, self.rnn_sizes.split(",")))
    return (self.rnn_hidden_size,) * self.rnn_hidden_layers


@dataclasses.dataclass(frozen=True)
class SpeechNetSettings(NetworkSettings):
  """SpeechNet: stacks of gated, dilated, residual convolutions over time."""

  kind = "speech_net"

  stacks: int = setting(2, "The number of stacks of residual blocks.", at_least=1)
  stack_filters: int = setting(32, "The filters of each convolution in the stacks.", at_least=1)
  stack_kernel_size: int = setting(3, "The frames that a convolution in the stacks reads for an output.", at_least=1)
  stack_dilation_rates: str = setting(
    "1,3,9,27,81",
    """The blocks of a stack: for each the distance between the frames that it reads, separated by commas.""",
  )
  causal_convolutions: bool = setting(
    True,
    """Whether an output depends on its own frame and earlier ones only. With --nocausal_convolutions it depends on as
    many earlier as later ones.""",
  )

  def __post_init__(self) -> None:
    """Refuse dilations that are no list of numbers."""
    super().__post_init__()
    if not re.fullmatch("[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*", self.stack_dilation_rates):
      raise UserError(
        f"--stack_dilation_rates={self.stack_dilation_rates} is out of range; give whole numbers from 1 to 9999, "
        "separated by commas, such as 1,3,9"
      )

  @property
  def dilation_rates(self) -> tuple[int, ...]:
    """The distance between the frames that each block of a stack reads, block by block."""
    return tuple(map(int, self.stack_dilation_rates.split(",")))
