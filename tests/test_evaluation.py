"""Holds the evaluation of a trained network against the Estimator's own, and against the texts themselves."""

import numpy as np
import pytest
import runs
from small_corpora import generate_batches, ordered_input_fn

import decoder
import deep_speech
import scoring
from data.manifest import Entry
from official_utils.lazy import tf
from official_utils.misc.errors import UserError
from training import evaluation


@pytest.fixture(scope="module")
def trained(tones_dir, tmp_path_factory):
  """Train a little; return the estimator, the data and what binds an input_fn to an order of it."""
  model_dir = str(tmp_path_factory.mktemp("model"))
  flags_obj = runs.parse(*runs.arguments(tones_dir, model_dir, "--learning_rate=0.01"))
  chosen = deep_speech.generate_dataset(flags_obj.train_data_dir, flags_obj)
  estimator = deep_speech.make_estimator(flags_obj, chosen.speech_labels, ["/cpu:0"])

  def bind(orders):
    return lambda: ordered_input_fn(8, chosen, orders)

  estimator.train(bind([range(22)] * 3))
  return estimator, chosen, bind


def test_agrees_with_the_estimators_evaluate(trained):
  estimator, chosen, bind = trained
  metrics = estimator.evaluate(bind([range(22)]))
  greedy = decoder.GreedyDecoder(chosen.speech_labels, wants=decoder.CLASSES)
  evaluated = evaluation.evaluate(estimator, greedy, chosen.entries, bind([range(22)]))
  results = evaluated.results()
  assert set(results) == {"WER", "CER", "mean_WER", "mean_CER", "eval_loss", "global_step"}
  assert results["global_step"] == metrics["global_step"] == 9
  assert metrics["WER"] == pytest.approx(results["WER"], rel=1e-5)
  assert metrics["CER"] == pytest.approx(results["CER"], rel=1e-5)
  assert 0 < metrics["loss"] < 1000
  # Batches in another order, entries paired by their index all the same.
  backwards = bind([list(reversed(range(22)))])
  again = evaluation.evaluate(estimator, greedy, chosen.entries, backwards)
  assert again.score == evaluated.score
  # Sums within the network depend on what shares a batch by their rounding.
  assert again.loss == pytest.approx(evaluated.loss, rel=1e-6)
  assert deep_speech.evaluate_model(estimator, chosen.speech_labels, chosen.entries, backwards) == again.results()
  # A decoder of log-probabilities hears the same.
  of_log_probs = decoder.GreedyDecoder(chosen.speech_labels)
  assert evaluation.evaluate(estimator, of_log_probs, chosen.entries, backwards) == again
  assert [each.reference for each in evaluated.score.utterances] == [entry.transcript for entry in chosen.entries]


def test_texts_are_those_of_the_log_probabilities(trained):
  estimator, chosen, bind = trained
  greedy = decoder.GreedyDecoder(chosen.speech_labels)
  expected = [
    greedy.decode(each["log_probs"][np.newaxis], [each["length"]])[0].text
    for each in estimator.predict(bind([range(22)]))
  ]
  assert len(set(expected)) > 1
  of_classes = decoder.GreedyDecoder(chosen.speech_labels, wants=decoder.CLASSES)
  heard, _ = evaluation.transcribe_entries(estimator, of_classes, bind([range(22)]))
  assert [heard[index].text for index in range(22)] == expected


def test_the_loss_is_the_mean_over_the_utterances_that_count(trained):
  estimator, chosen, bind = trained
  greedy = decoder.GreedyDecoder(chosen.speech_labels, wants=decoder.CLASSES)
  batch, labels = next(generate_batches(22, chosen, [range(22)]))

  def input_fn():
    return tf.data.Dataset.from_tensors((batch, labels))

  evaluated = evaluation.evaluate(estimator, greedy, chosen.entries, bind([range(22)]))
  # The Estimator's is the mean over batches: here there is one.
  assert evaluated.loss == pytest.approx(float(estimator.evaluate(input_fn)["loss"]), rel=1e-6)
  alone = [evaluation.transcribe_entries(estimator, greedy, bind([[index]]))[1] for index in (3, 20)]
  batch["weight"] = np.isin(np.arange(22), [3, 20]).astype(np.float32)[:, np.newaxis]
  assert evaluation.transcribe_entries(estimator, greedy, input_fn)[1] == pytest.approx(sum(alone) / 2, rel=1e-5)
  batch["weight"][:] = 0
  assert evaluation.transcribe_entries(estimator, greedy, input_fn)[1] == 0


def test_refuses_to_score_half_a_set(trained):
  estimator, chosen, bind = trained
  with pytest.raises(RuntimeError, match="5 of 22"):
    deep_speech.evaluate_model(estimator, chosen.speech_labels, chosen.entries, bind([range(5)]))


def test_says_that_a_network_has_come_to_nan(trained):
  estimator, chosen, bind = trained
  batch, labels = next(generate_batches(4, chosen, [range(4)]))
  batch["features"][2] = np.nan

  def input_fn():
    return tf.data.Dataset.from_tensors((batch, labels))

  with pytest.raises(UserError, match="NaN.*--learning_rate"):
    evaluation.transcribe_entries(estimator, decoder.GreedyDecoder(chosen.speech_labels), input_fn)


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, [0]), (3, [0, 1, 3]), (9, [0, 1, 2, 3, 4])])
def test_prints_samples_from_short_to_long(count, expected, capsys):
  entries = [Entry(f"{index}.wav", index, f"said {index}") for index in range(5)]
  score = scoring.score([entry.transcript for entry in entries], [f"text {index}" for index in range(5)])
  evaluation.Evaluation(score, 2.5, 7).print_samples(entries, count)
  lines = [f"{index}.wav\n  said:  said {index}\n  heard: text {index}\n" for index in expected]
  assert capsys.readouterr().out == "".join(lines)


def test_batches_are_as_large_as_those_of_training():
  seconds = [1.0, 2.0, 3.0, 4.0, 6.0]

  def sizes(*arguments):
    return [len(batch.indices) for batch in evaluation.plan_batches(seconds, *arguments)]

  # Two of the longest utterance of training, or so many seconds, or where padding counts, two.
  assert sizes(2, True, 6.0) == [3, 2]
  assert sizes(2, True, 6.0, 6.0) == [2, 1, 1, 1]
  assert sizes(2, False, 6.0) == [2, 2, 1]
