"""What flags mean: the settings, devices and plain arguments that they stand for."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

import settings
from official_utils.flags import core as flags_core
from official_utils.misc import distribution_utils, number_formats
from official_utils.misc.errors import UserError

if TYPE_CHECKING:
  from data.augmentation.augmenter import Augmenter


def choose_devices(flags_obj: flags.FlagValues, devices: Sequence[str] | None = None) -> list[str]:
  """Return the device of each replica, the given ones or those of --num_gpus, once --dtype is said to suit them.

  Raises:
    UserError: there are no such devices, or they cannot compute in the number format.
  """
  devices = list(devices or distribution_utils.list_devices(flags_obj.num_gpus))
  number_formats.announce(flags_obj.dtype, functools.partial(print, flush=True), devices)
  return devices


def wer_threshold(flags_obj: flags.FlagValues) -> float | None:
  """Return the word error rate at which training ends early, or None.

  Args:
    flags_obj: the parsed flags; stop_threshold and wer_threshold mean the same in this program.

  Returns:
    The given one; None if neither is.

  Raises:
    UserError: both are given, with different values.
  """
  given = {flags_obj.wer_threshold, flags_obj.stop_threshold} - {None}
  if len(given) > 1:
    raise UserError(
      f"--wer_threshold={flags_obj.wer_threshold} and --stop_threshold={flags_obj.stop_threshold} disagree, "
      "and both name the word error rate at which training stops; give one of them"
    )
  return given.pop() if given else None


def is_given(flag: flags.Flag) -> bool:
  """Tell whether a flag was given; a program of one's own may set a value without a command line."""
  return bool(flag.present) or flag.value != flag.default


def given_settings(flags_obj: flags.FlagValues) -> dict[str, Any]:
  """Return the model settings given on the command line, by name."""
  chosen = {name: flags_obj[name] for name in settings.declarations()}
  return {name: flag.value for name, flag in chosen.items() if is_given(flag)}


def given_vocabulary(flags_obj: flags.FlagValues) -> str | None:
  """Return the vocabulary given on the command line, None if there is none."""
  return flags_obj.vocabulary_file if flags_obj["vocabulary_file"].present else None


def model_settings(flags_obj: flags.FlagValues) -> settings.ModelSettings:
  """Return the settings of the model that the flags ask for."""
  given = given_settings(flags_obj)
  # What is given takes the place of what a recipe has for the same.
  names = set(settings.declarations())
  for name, others in [pair for network in settings.NETWORKS.values() for pair in network.replaces.items()]:
    if given.get(name):
      names -= {*others} - given.keys()
    elif given.keys() & {*others}:
      names -= {name} - given.keys()
  chosen = settings.make_settings({name: flags_obj[name].value for name in names})
  known = chosen.values()
  chosen.network.refuse_replaced(given)
  for name in given:
    if name not in known:
      raise UserError(
        f"--{name} means nothing with --network={flags_obj.network} and --features={flags_obj.features}; leave it out"
      )
  return chosen


def manifests_to_score(flags_obj: flags.FlagValues) -> list[str]:
  """List the manifests that --mode=evaluate goes through."""
  paths = flags_obj.eval_data_dir
  # A single path may contain commas.
  listed = [paths] if os.path.exists(paths) else [path.strip() for path in paths.split(",") if path.strip()]
  if not listed:
    raise UserError(f"--eval_data_dir={paths} names no manifest; give one, or several separated by commas")
  return listed + ([flags_obj.test_data_dir] if flags_obj.test_data_dir else [])


def augmenter(flags_obj: flags.FlagValues) -> "Augmenter | None":
  """Return what --augment asks for, None if that is nothing."""
  if not flags_obj.augment:
    return None
  # Only here: it loads numpy, which --help does without.
  from data.augmentation.augmenter import make_augmenter

  return make_augmenter(flags_obj.augment, flags_obj.seed, flags_obj.train_epochs)


def dataset_options(flags_obj: flags.FlagValues, is_training: bool) -> dict[str, Any]:
  """Return the fields of a data set's configuration that follow from the flags alone, for training or for scoring."""
  options = {name: flags_obj[name].value for name in ("sortagrad", "on_unknown", "feature_cache_dir")}
  if is_training:
    # Only here, as above.
    from data.checks import Limits

    options |= {"augmenter": augmenter(flags_obj), "limits": Limits(**plain_values(flags_obj, Limits))}
  return options


def export_dir(flags_obj: flags.FlagValues) -> str:
  """Return the folder where exports go."""
  return flags_obj.export_dir or os.path.join(flags_obj.model_dir, "export")


def plain_values(flags_obj: flags.FlagValues, wanted: type) -> dict[str, Any]:
  """Return values for the fields of a dataclass: those of flags by their names, and dataclasses of such fields.

  A field that is neither keeps its default.
  """
  derived = {
    "export_dir": export_dir(flags_obj),
    "wer_threshold": wer_threshold(flags_obj),
    "loss_scale": flags_core.get_loss_scale(flags_obj),
  }
  values: dict[str, Any] = {}
  for field in dataclasses.fields(wanted):
    if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
      values[field.name] = field.type(**plain_values(flags_obj, field.type))
    elif field.name in flags_obj:
      values[field.name] = derived.get(field.name, flags_obj[field.name].value)
  return values


def flag_values(flags_obj: flags.FlagValues, devices: Sequence[str] | None = None) -> dict[str, object]:
  """Return every flag of this repository with its value in a run on the devices, in order of definition."""
  values = {flag.name: flag.value for of_module in flags_core.own_flags(flags_obj).values() for flag in of_module}
  return values | {"dtype": number_formats.resolve(flags_obj.dtype, devices)}
