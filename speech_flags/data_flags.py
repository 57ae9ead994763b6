"""What to do, and with which data."""

from collections.abc import Callable

from absl import flags

from data.vocabulary import DEFAULT_VOCABULARY

UNKNOWN_POLICIES = ("error", "drop")
MODES = ("train", "evaluate", "export")


def define_mode_flags(define: Callable[..., None]) -> None:
  """Define the flags for what to do and what to export."""
  define(
    flags.DEFINE_enum,
    "mode",
    "train",
    """What to do: 'train' trains, evaluates and exports in turn; 'evaluate' scores a checkpoint on the manifests of
    eval_data_dir, separated by commas, and of test_data_dir; 'export' writes a checkpoint as a SavedModel.""",
    enum_values=MODES,
  )
  define(
    flags.DEFINE_string,
    "checkpoint",
    None,
    """The checkpoint to evaluate or export, such as MODEL_DIR/model.ckpt-1200, or 'best', the one in model_dir that did
    best on the evaluation set (see best_metric). Not given: the newest in model_dir.""",
  )
  define(
    flags.DEFINE_integer,
    "keep_exports",
    1,
    """How many exports to keep, both of the best models (see best_metric) and of the last; 0 exports nothing while
    training.""",
  )


def define_data_flags(define: Callable[..., None]) -> None:
  """Define the flags for where utterances come from and how they become features and labels."""
  define(
    flags.DEFINE_string,
    "train_data_dir",
    "/tmp/librispeech_data/train-clean-100+360.csv",
    "The manifest of the training set: a file with one row per utterance, as data/download.py writes it.",
  )
  define(
    flags.DEFINE_string,
    "eval_data_dir",
    "/tmp/librispeech_data/dev-clean.csv",
    "The manifest of the set that is evaluated after each cycle of training.",
  )
  define(
    flags.DEFINE_string,
    "test_data_dir",
    None,
    "The manifest of a set that is scored once, at the end, with the best model. Not given: no test set.",
  )
  define(
    flags.DEFINE_integer,
    "show_samples",
    0,
    "How many utterances of each set that is scored (in training, of the test set) to print, as said and as heard.",
  )
  define(
    flags.DEFINE_string,
    "vocabulary_file",
    DEFAULT_VOCABULARY,
    "The file with the labels, one per line; the last one is the CTC blank.",
  )
  define(
    flags.DEFINE_enum,
    "on_unknown",
    "error",
    """What to do with utterances whose transcript has characters outside the vocabulary: 'error' names them and stops
    before training, 'drop' leaves them out.""",
    enum_values=UNKNOWN_POLICIES,
  )
  define(
    flags.DEFINE_string,
    "feature_cache_dir",
    None,
    """A folder that keeps computed features for this and later runs, in half precision; any number of runs may share
    it. Not given: features are computed again in every epoch.""",
  )
  define(
    flags.DEFINE_multi_string,
    "augment",
    [],
    """What makes training speech harder, as NAME or NAME[KEY=VALUE,...], such as noise[p=0.5,snr=10..20]; 'none' drops
    those before it. `python data/augment.py --help` lists the names and keys. Evaluation is never augmented. To apply
    several in their order""",
  )


def define_limit_flags(define: Callable[..., None]) -> None:
  """Define the flags for which utterances are trained on."""
  define(
    flags.DEFINE_integer,
    "min_text_length",
    None,
    "The fewest characters, spaces included, of a transcript that is trained on. Not given: no limit.",
  )
  define(
    flags.DEFINE_integer,
    "max_text_length",
    None,
    "The most characters, spaces included, of a transcript that is trained on. Not given: no limit.",
  )
  define(
    flags.DEFINE_float,
    "max_duration",
    None,
    """The longest utterance that is trained on, in seconds according to the manifest. Not given: no limit. Sets that are
    scored keep all of theirs.""",
  )
