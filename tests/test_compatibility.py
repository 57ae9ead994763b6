"""Tests of what a run refuses: settings, labels and variables other than its own."""

import pytest

from data.vocabulary import DEFAULT_VOCABULARY, read_vocabulary
from inference import LABELS_FILE
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from settings import ModelSettings
from training import compatibility

SHAPES = {"dense/kernel": [2, 3], "dense/bias": [3]}


def save(folder, shapes) -> str:
  """Write a checkpoint with variables of these shapes; return its prefix."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for name, shape in shapes.items():
      tf.compat.v1.get_variable(name, shape)
    session.run(tf.compat.v1.global_variables_initializer())
    return tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"), 1)


def test_settings_and_labels_that_are_those_of_the_run_pass(tmp_path):
  compatibility.check_settings("m", ModelSettings(), {"rnn_hidden_size": 800, "unknown": 1}, "or not")
  labels = read_vocabulary(DEFAULT_VOCABULARY)
  # A run of which no vocabulary is known.
  compatibility.check_labels(str(tmp_path), labels, "or not")
  (tmp_path / LABELS_FILE).write_text("\n".join(labels) + "\n")
  compatibility.check_labels(str(tmp_path), labels, "or not")


def test_other_settings_and_labels_are_refused(tmp_path):
  message = "m was trained with --rnn_hidden_size=800, but --rnn_hidden_size=8 is asked for; use .*=800, or not$"
  with pytest.raises(UserError, match=message):
    compatibility.check_settings("m", ModelSettings(), {"rnn_hidden_size": 8}, "or not")
  (tmp_path / LABELS_FILE).write_text("a\n-\n")
  with pytest.raises(UserError, match="trained with the vocabulary 'a-', but 'b-' is asked for; use .*, or not$"):
    compatibility.check_labels(str(tmp_path), ["b", "-"], "or not")


@pytest.mark.parametrize(
  ("there", "message"),
  [
    (SHAPES | {"dense/kernel/Adam": [2, 3], "beta1_power": []}, None),
    (
      SHAPES | {"dense/kernel": [2, 4]},
      r"does not fit the network asked for: dense/kernel is \[2, 4\] there and \[2, 3\]",
    ),
    ({"dense/kernel": [2, 3]}, "dense/bias is absent there"),
    (
      SHAPES | {"another/kernel": [1]},
      "another/kernel is .* there and absent here; set --vocabulary_file and the flags of --network=deep_speech",
    ),
  ],
)
def test_variables_of_the_network_are_compared(there, message, tmp_path):
  checkpoint = save(tmp_path, there)
  if message is None:
    compatibility.check_shapes(checkpoint, SHAPES, ModelSettings())
  else:
    with pytest.raises(UserError, match=message):
      compatibility.check_shapes(checkpoint, SHAPES, ModelSettings())


def test_what_training_keeps_is_compared_when_it_goes_on(tmp_path):
  checkpoint = save(tmp_path, SHAPES | {"dense/kernel/Adam": [2, 3]})
  with pytest.raises(UserError, match="lacks dense/bias/Adam, which training keeps: it can be evaluated and exported"):
    wanted = SHAPES | {"dense/kernel/Adam": [2, 3], "dense/bias/Adam": [3]}
    compatibility.check_shapes(checkpoint, wanted, ModelSettings(), is_whole=True)
  with pytest.raises(UserError, match="holds dense/kernel/Adam, which training with these flags does not keep"):
    compatibility.check_shapes(checkpoint, SHAPES, ModelSettings(), is_whole=True)
