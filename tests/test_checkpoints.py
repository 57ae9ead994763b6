"""Finds, reads and compares checkpoints, sound and damaged ones."""

import os

import numpy as np
import pytest

from official_utils import checkpoints
from official_utils.lazy import tf
from official_utils.misc.errors import UserError


@pytest.fixture
def checkpoint(tmp_path) -> str:
  """Write a checkpoint with two variables."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.get_variable("weight", initializer=np.ones([2, 3], np.float32))
    tf.compat.v1.get_variable("bias", initializer=np.zeros([3], np.float32))
    session.run(tf.compat.v1.global_variables_initializer())
    return tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), global_step=7)


def test_the_newest_is_found_and_read(checkpoint, tmp_path):
  assert checkpoints.newest_checkpoint(str(tmp_path)) == checkpoint
  assert checkpoints.read_shapes(checkpoint) == {"weight": [2, 3], "bias": [3]}
  np.testing.assert_array_equal(checkpoints.read_variable(checkpoint, "weight"), np.ones([2, 3]))
  assert checkpoints.newest_checkpoint(str(tmp_path / "nowhere")) is None


@pytest.mark.parametrize(
  ("wanted", "ignored", "difference"),
  [
    ({"weight": [2, 3], "bias": [3]}, [], None),
    ({"weight": [2, 3]}, ["bias"], None),
    ({"weight": [2, 3]}, [], ("bias", [3], "absent")),
    ({"weight": [3, 2]}, ["bias", "weight"], ("weight", [2, 3], [3, 2])),
    ({"other": []}, ["bias", "weight"], ("other", "absent", [])),
  ],
)
def test_the_first_difference_is_named(wanted, ignored, difference, checkpoint):
  assert checkpoints.find_difference(checkpoint, wanted, lambda name: name in ignored) == difference


def test_what_else_a_checkpoint_holds_is_ignored_unless_asked(checkpoint):
  assert checkpoints.find_difference(checkpoint, {"bias": [3]}) is None


def test_damage_is_said_with_the_remedy(checkpoint):
  os.truncate(f"{checkpoint}.index", 10)
  for read in (checkpoints.read_shapes, lambda path: checkpoints.read_variable(path, "weight")):
    with pytest.raises(UserError, match="model.ckpt-7 is damaged or gone; restore it, or name an older one"):
      read(checkpoint)
  # Where nothing names the newest one, there is no older one to name.
  os.remove(os.path.join(os.path.dirname(checkpoint), "checkpoint"))
  with pytest.raises(UserError, match="model.ckpt-7 is damaged or gone; restore or remove it"):
    checkpoints.read_shapes(checkpoint)


def write_two(folder) -> list[str]:
  """Write two checkpoints of which the second has averages."""
  paths = []
  for step, names in ((1, ["weight", "bias"]), (3, ["weight", "bias", "weight/average"])):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      for number, name in enumerate(names):
        tf.compat.v1.get_variable(name, initializer=np.full([2], step * 10 + number, np.float32))
      tf.compat.v1.train.get_or_create_global_step().load(step, session)
      session.run(tf.compat.v1.variables_initializer(tf.compat.v1.global_variables()[:-1]))
      saver = tf.compat.v1.train.Saver()
      saver.recover_last_checkpoints(paths)
      paths.append(saver.save(session, str(folder / "model.ckpt"), global_step=step))
  return paths


def test_averages_are_used_in_place_of_weights(tmp_path):
  without, with_average = write_two(tmp_path)
  names = {name: name for name in ("weight", "bias", "global_step")}
  assert checkpoints.names_to_use(without) == names
  assert checkpoints.names_to_use(with_average).items() >= (names | {"weight": "weight/average"}).items()


def test_the_newest_are_listed_that_are_still_there(tmp_path):
  paths = write_two(tmp_path)
  assert checkpoints.newest_checkpoints(str(tmp_path)) == paths
  os.remove(f"{paths[0]}.index")
  assert checkpoints.newest_checkpoints(str(tmp_path)) == paths[1:]
  assert checkpoints.newest_checkpoints(str(tmp_path / "nowhere")) == []


def test_the_mean_of_checkpoints_is_one(tmp_path):
  target = str(tmp_path / "mean" / "model.ckpt-3")
  checkpoints.write_mean(write_two(tmp_path), ["weight", "bias"], target)
  assert checkpoints.read_shapes(target) == {"weight": [2], "bias": [2], "global_step": []}
  np.testing.assert_array_equal(checkpoints.read_variable(target, "weight"), np.float32([21, 21]))
  np.testing.assert_array_equal(checkpoints.read_variable(target, "bias"), np.float32([21, 21]))
  assert checkpoints.read_variable(target, "global_step") == 3
