"""Compares the network, its loss, its gradients and its training steps with numbers that the original code produced.

With mask_padding off, on batches of equal lengths and on padded ones. The `patched` files come from an original that had to
be repaired to run at all: its plain RNN cell named an abstract class, and one direction alone handed on a pair.
"""

import fixture_files
import numpy as np
import pytest
import small_network

from benchmarks import fixture_graph
from official_utils.lazy import tf

LEARNING_RATE = 5e-4


@pytest.fixture(scope="module", params=fixture_files.MODELS)
def graph(request):
  numbers, meta = fixture_files.load_model(request.param)
  assert meta["config"]["learning_rate"] == LEARNING_RATE
  return fixture_graph.FixtureGraph(numbers, meta, small_network.of_original(meta["config"]))


def test_all_configurations_are_there():
  assert len(fixture_files.MODELS) == 10


def test_variables_have_the_original_names_shapes_and_kinds(graph):
  ours = {name for name in graph.variables if "Adam" not in name and "power" not in name and name != "global_step"}
  assert ours == set(graph.names)
  with graph.session.graph.as_default():
    assert {variable.op.name for variable in tf.compat.v1.trainable_variables()} == set(graph.trainable)
  for name in graph.names:
    assert graph.variables[name].shape.as_list() == list(graph.numbers[f"var/{name}"].shape)


@pytest.mark.parametrize("batch", ["equal", "padded"])
def test_forward(graph, batch):
  fetches = [graph.outputs["infer"], graph.outputs["train"], graph.steps, graph.loss_each, graph.loss]
  infer, train, steps, loss_each, loss = graph.run(batch, fetches)
  np.testing.assert_allclose(infer, graph.numbers[f"{batch}/infer_logits"], rtol=0, atol=1e-5)
  np.testing.assert_array_equal(infer.argmax(2), graph.numbers[f"{batch}/infer_classes"])
  np.testing.assert_allclose(train, graph.numbers[f"{batch}/train_logits"], rtol=0, atol=5e-4)
  np.testing.assert_array_equal(steps, graph.numbers[f"{batch}/ctc_input_length"])
  np.testing.assert_allclose(loss_each, graph.numbers[f"{batch}/ctc_loss_each"], rtol=2e-5)
  np.testing.assert_allclose(loss, graph.numbers[f"{batch}/loss"], rtol=1e-5)


@pytest.mark.parametrize(("batch", "tolerance"), [("equal", 1e-3), ("padded", 2e-2)])
def test_gradients(graph, batch, tolerance):
  for name, gradient in zip(graph.trainable, graph.run(batch, graph.gradients), strict=True):
    expected, ours = fixture_files.sampled(graph.numbers, f"{batch}/grad", name, gradient)
    assert np.linalg.norm(ours - expected) <= tolerance * np.linalg.norm(expected), name
    norm_key = f"{batch}/grad_norm/{name}"
    if norm_key in graph.numbers:
      np.testing.assert_allclose(np.linalg.norm(gradient), graph.numbers[norm_key][0], rtol=tolerance)


def test_three_adam_steps(graph):
  """Runs last in this module: it moves the variables."""
  np.testing.assert_allclose(graph.train_three_steps(), graph.numbers["steps_loss"], rtol=1e-3)
  values = graph.session.run({name: graph.variables[name] for name in graph.names})
  differences = []
  for name in graph.names:
    expected, ours = fixture_files.sampled(graph.numbers, "after3", name, values[name])
    if name in graph.trainable:
      differences.append(np.abs(ours - expected).ravel())
    else:
      np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4, err_msg=name)
  differences = np.concatenate(differences)
  assert np.mean(differences <= 1e-4) >= 0.995
  assert differences.max() <= 6 * LEARNING_RATE
