"""The settings of each network."""

import dataclasses
import re

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


@dataclasses.dataclass(frozen=True)
class DeepSpeech2Settings(NetworkSettings):
  """DeepSpeech2: two convolutions, a recurrent stack and a dense layer."""

  kind = "deep_speech"

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
