"""The settings of each network."""

import dataclasses

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
