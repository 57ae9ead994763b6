"""Restores checkpoints with and without averages of the weights."""

import numpy as np
import pytest

from official_utils.lazy import tf
from training.averages import AveragesSaver


def write_checkpoint(folder, values: dict) -> str:
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for name, value in values.items():
      tf.compat.v1.get_variable(name, initializer=np.float32(value))
    session.run(tf.compat.v1.global_variables_initializer())
    return tf.compat.v1.train.Saver().save(session, f"{folder}/model.ckpt", global_step=7)


@pytest.mark.parametrize(
  ("more", "expected"), [({}, [1, 2, 3]), ({"layer/kernel/average": 4, "bias/average": 5}, [4, 5, 3])]
)
def test_averages_are_taken_where_there_are_any(more, expected, tmp_path):
  path = write_checkpoint(tmp_path, {"layer/kernel": 1, "bias": 2, "statistic": 3, "layer/kernel/Adam": 9, **more})
  with tf.Graph().as_default() as graph:
    weights = [tf.compat.v1.get_variable(name, []) for name in ("layer/kernel", "bias")]
    variables = [*weights, tf.compat.v1.get_variable("statistic", [], trainable=False)]
    saver = AveragesSaver()
    graph.finalize()
    with tf.compat.v1.Session() as session:
      saver.restore(session, path)
      assert session.run(variables) == expected
