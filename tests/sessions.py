"""Sessions for tests of hooks."""

import json

from official_utils.lazy import tf
from official_utils.logs import logger


def train(hook_list, num_steps):
  """Run steps of a graph whose cross_entropy is 100 in the first step, 101 in the second, and so on."""
  with tf.Graph().as_default():
    global_step = tf.compat.v1.train.get_or_create_global_step()
    loss = tf.identity(tf.cast(global_step, tf.float32) + 100.0, name="cross_entropy")
    tf.identity(0.0005, name="learning_rate")
    with tf.control_dependencies([loss]):
      train_op = tf.compat.v1.assign_add(global_step, 1)
    with tf.compat.v1.train.MonitoredTrainingSession(hooks=hook_list) as session:
      for _ in range(num_steps):
        session.run(train_op)


def metrics(folder):
  lines = (folder / logger.METRIC_FILE).read_text().splitlines()
  return [(record["name"], record["value"], record["global_step"]) for record in map(json.loads, lines)]
