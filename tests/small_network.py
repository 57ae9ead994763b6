"""The network that tests build: small, as settings by flag name or as a command line's flags."""

from settings import NetworkSettings, make_settings

SETTINGS = {
  "rnn_type": "gru",
  "rnn_hidden_size": 8,
  "rnn_hidden_layers": 1,
  "is_bidirectional": True,
  "use_bias": True,
  "conv_layout": "official",
  "mask_padding": True,
}


def settings(**changes) -> dict:
  """Return the settings, some of them changed."""
  unknown = changes.keys() - SETTINGS.keys()
  assert not unknown, f"no settings of the network: {sorted(unknown)}"
  return SETTINGS | changes


def of_original(config: dict) -> NetworkSettings:
  """Return the settings with which ours is the network that a fixture of the original was made with."""
  return network(**{name: config[name] for name in SETTINGS if name in config}, mask_padding=False)


def network(**changes) -> NetworkSettings:
  """Return the settings as those of a network."""
  return make_settings(settings(**changes)).network


def options(**values) -> tuple[str, ...]:
  """Return flags: those that make the network small, and others or other values by name."""
  chosen = {name: SETTINGS[name] for name in ("rnn_hidden_layers", "rnn_hidden_size")} | values
  return tuple(f"--{name}={value}" for name, value in chosen.items())
