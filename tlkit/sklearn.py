"""scikit-learn estimators: `ImageFeatures` turns paths into features, `ImageClassifier` learns from paths and labels.

    pipeline = make_pipeline(ImageFeatures("resnet50"), LogisticRegression())
    GridSearchCV(pipeline, {"logisticregression__C": [0.01, 0.1, 1]}).fit(paths, labels)

Features come from the store, so that ten settings times five folds cost one extraction. Constructors only store their
parameters; Keras is loaded when a network has to compute.
"""

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, finalize

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from tlkit.base.errors import TlkitError
from tlkit.base.files import SETTLED_AFTER, remove, replacing
from tlkit.base.process import scratch, scratch_folder, settle_backend
from tlkit.base.story import PlainStory, Silence, Story
from tlkit.data.dataset import Dataset, InputContract
from tlkit.data.decode import contract_for
from tlkit.data.look import read_contents
from tlkit.extraction.recall import feature_source
from tlkit.extraction.source import LOGITS, FeatureSource
from tlkit.extraction.tables import column_names
from tlkit.options.commands import FeaturesConfig, FinetuneConfig
from tlkit.options.option import resolve

REMEMBERED = 1_000_000  # files, about 200 bytes each
RECENT_BYTES = 1 << 26  # of rows
OF_FEATURES = ("fit", "levels", "engine", "precision", "stored_as", "batch_size", "seed")
NOT_OF_CLASSIFIERS = (
    *("images", "resume", "out", "overwrite", "dry_run", "log", "audit", "test", "classes", "group_by", "keras_split"),
    *("fixes", "slice_by", "on_bad", "target_precision", "backbone", "weights", "head", "stages", "balance", "seed"),
    *("task", "target", "time", "frames", "stride", "devices"),
)


class UnfitInput(TlkitError, ValueError):
    """The input is unusable; also a ValueError, which scikit-learn expects."""


class ImageFeatures(TransformerMixin, BaseEstimator):
    """Transform paths of images to features of a pretrained network, float32 (n, C).

    `fit` learns nothing from the pixels: it fixes how they are decoded and computes the features. Features are kept in
    tlkit's store and never computed twice, whichever estimator, fold or process needs them. A file that cannot be read
    is an error, because scikit-learn expects one row per input.

    Args:
        backbone: as `--backbone`: a name from `tlkit backbones`, a .keras file, or a KerasHub preset.
        weights: `imagenet`, `none` (random), or a path.
        layer: take the features from this layer instead of the last grid.
        pool: `avg`, `max`, or `none` for the flattened grid.
        image_size: side of the input in pixels, 16..4096; default: the backbone's native size.
        options: further options of `tlkit features` by name: fit, levels, engine, precision, stored_as, batch_size, seed.
        verbose: whether to report on stderr what is computed.
    """

    def __init__(
        self,
        backbone: str = "mobilenetv2",
        *,
        weights: str = "imagenet",
        layer: str | None = None,
        pool: str = "avg",
        image_size: int | None = None,
        options: Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        self.backbone, self.weights, self.layer, self.pool = backbone, weights, layer, pool
        self.image_size, self.options, self.verbose = image_size, options, verbose

    def fit(self, X: Any, y: Any = None) -> "ImageFeatures":
        """Determine the input contract and compute the features of n paths; `y` is ignored."""
        self._fitted(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, and return the features of `X`."""
        return self._fitted(X)

    def transform(self, X: Any) -> np.ndarray:
        """Features float32 (n, C) of n paths, in their order.

        Raises:
            UnfitInput: for no paths, or a file that cannot be read.
        """
        check_is_fitted(self)
        settle_backend()
        images, (_, source) = images_of(X, self._story), feature_source(self._config(), self._story)
        return _rows(replace(source, contract=self.contract_), images, self._story)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The C column names, as written by `tlkit features`."""
        check_is_fitted(self)
        return np.array(column_names(self.n_features_out_), dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Declare that the input is paths, not a table of numbers, and the output float32."""
        tags = _of_paths(super().__sklearn_tags__())
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    @property
    def _story(self) -> Story:
        return PlainStory() if self.verbose else Silence()

    def _fitted(self, X: Any) -> np.ndarray:
        settle_backend()
        images, config = images_of(X, self._story), self._config()
        origin, source = feature_source(config, self._story)
        self.contract_: InputContract = contract_for(config, origin.image_size, images, self._story)
        rows = _rows(replace(source, contract=self.contract_), images, self._story)
        self.n_features_out_ = rows.shape[1]
        return rows

    def _config(self) -> FeaturesConfig:
        further = _allowed(self, self.options, OF_FEATURES)
        own = {name: getattr(self, name) for name in ("backbone", "weights", "layer", "pool", "image_size")}
        return resolve(FeaturesConfig, {"images": ".", **own, **further})


class _Finetuned(BaseEstimator):
    """Base of the estimators that train like `tlkit finetune`."""

    archive_: bytes
    choice_: str
    verbose: bool
    random_state: Any
    options: Mapping[str, Any] | None
    _own: tuple[str, ...] = ("backbone", "weights", "head", "stages")
    _task = "single"

    def _fitted(self, images: Dataset) -> None:
        settle_backend()
        _networks.pop(self, None)
        with scratch() as folder, _random_state_kept():
            self.archive_, self.choice_, _networks[self] = _trained(self._config(), images, folder, self._story)

    def _logits(self, X: Any) -> tuple[np.ndarray, Any]:
        """Logits float32 (n, K) of n paths, and the network's `Facts`."""
        check_is_fitted(self)
        settle_backend()
        images, (source, facts) = images_of(X, self._story), self._opened()
        return _rows(source, images, self._story), facts

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .keras file that plain Keras loads and every tlkit command accepts in place of a run."""
        check_is_fitted(self)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(self.archive_)

    def __sklearn_tags__(self) -> Any:
        """Declare that the input is paths, not a table of numbers."""
        return _of_paths(super().__sklearn_tags__())

    @property
    def _story(self) -> Story:
        return PlainStory() if self.verbose else Silence()

    def _config(self) -> FinetuneConfig:
        taken = (*NOT_OF_CLASSIFIERS, *self._own)
        allowed = tuple(name for name in FinetuneConfig.__dataclass_fields__ if name not in taken)
        further = _allowed(self, self.options, allowed)
        own = {name: getattr(self, name) for name in self._own}
        chosen = self.random_state or 0
        seed = chosen if isinstance(chosen, int) else check_random_state(chosen).randint(2**31 - 1)
        return resolve(FinetuneConfig, {"images": ".", "test": 0.0, "seed": seed, "task": self._task, **own, **further})

    def _opened(self) -> tuple[FeatureSource, Any]:
        """The network as a source of logits, kept open for later calls, and its facts."""
        from tlkit.classifier.facts import read_facts

        if self not in _networks:
            folder = scratch_folder()
            finalize(self, remove, folder)
            file = folder / "model.keras"
            file.write_bytes(self.archive_)
            _networks[self] = FeatureSource.of_file(file, LOGITS), read_facts(file)
        return _networks[self]


class ImageClassifier(ClassifierMixin, _Finetuned):
    """A classifier of images given as paths, trained like `tlkit finetune`.

    A linear head is fitted on stored features, fine-tuning follows, and the simplest candidate within the noise of the
    best is kept, judged on images that `fit` holds out from those it is given (by cross-validation if there are few):
    never worse than the head alone by more than chance. Probabilities are calibrated on the same images.
    `sample_weight` is refused: the stages weight classes (`balance`), not images.

    Args:
        backbone: as in `ImageFeatures`.
        weights: as in `ImageFeatures`.
        head: `linear`, `mlp`, `conv`, `attention`, ...
        stages: `("head",)` for the head alone, `("head", "top")`, `("head", "all")` or all three; None for `("head", "top")`,
            or `("head",)` if fine-tuning could not be validated.
        balance: handling of unequal class sizes: `none`, `weights`, `sample`, `logit-adjust`, `post-hoc`, `smote`,
            `gaussian`, `gan` or `auto`.
        options: further options of `tlkit finetune` by name, such as `{"epochs": 5, "flip": False, "val": 0.2}`.
        random_state: seed of everything random; None for 0.
        verbose: whether to report progress on stderr.

    Attributes:
        classes_: (K,), sorted.
        choice_: which candidate was kept and why, in one sentence; "" if there was only one.
        archive_: bytes of the classifier's .keras file, which `save(path)` writes.
    """

    _own = (*_Finetuned._own, "balance")

    def __init__(
        self,
        backbone: str = "mobilenetv2",
        *,
        weights: str = "imagenet",
        head: str = "linear",
        stages: tuple[str, ...] | None = None,
        balance: str = "none",
        options: Mapping[str, Any] | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.backbone, self.weights, self.head, self.stages, self.balance = backbone, weights, head, stages, balance
        self.options, self.random_state, self.verbose = options, random_state, verbose

    def fit(self, X: Any, y: Any, **given: Any) -> "ImageClassifier":
        """Train on n paths and their n labels.

        Raises:
            UnfitInput: for no paths, unreadable files, a single class, or sample weights.
            TlkitError: for options that do not fit the images.
        """
        if given:
            raise UnfitInput(
                f"ImageClassifier.fit takes no {', '.join(given)}: its stages weight classes, not images.",
                "use balance='weights' for classes of unequal size.",
            )
        self._fitted(self._labelled(X, y))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities float64 (n, K), calibrated, in the order of `classes_`."""
        logits, facts = self._logits(X)
        return facts.task.probabilities(logits, facts.temperature)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each of n paths, (n,), of the type of `classes_`."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _labelled(self, X: Any, y: Any) -> Dataset:
        if y is None:
            raise UnfitInput("requires y to be passed, but the target y is None.", "give a label for each path.")
        images = images_of(X, self._story)
        labels = column_or_1d(y, warn=True)
        check_consistent_length(images.paths, labels)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise UnfitInput("y holds 1 class, expected at least 2.", "give images of another class as well.")
        names = tuple(map(str, self.classes_.tolist()))
        return replace(images, classes=names, labels=codes.astype(np.int32))


class ImageRegressor(RegressorMixin, _Finetuned):
    """A regressor of one or several numbers per image, given as paths, trained like `tlkit finetune`.

    Ridge regression is fitted on stored features, fine-tuning with squared or Huber error follows, and the simplest
    candidate within the noise of the best is kept, judged on images that `fit` holds out from those it is given.
    `sample_weight` is refused.

    Args:
        backbone, weights, head, stages: as in `ImageClassifier`.
        loss: `mse` or `huber`.
        options: further options of `tlkit finetune` by name.
        random_state: seed of everything random; None for 0.
        verbose: whether to report progress on stderr.

    Attributes:
        choice_, archive_: as in `ImageClassifier`.
        margins_: (K,) half-width of the 95 % interval around each number; None if fewer than 19 images were held out.
    """

    _own = (*_Finetuned._own, "loss")
    _task = "number"

    def __init__(
        self,
        backbone: str = "mobilenetv2",
        *,
        weights: str = "imagenet",
        head: str = "linear",
        stages: tuple[str, ...] | None = None,
        loss: str = "mse",
        options: Mapping[str, Any] | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.backbone, self.weights, self.head, self.stages, self.loss = backbone, weights, head, stages, loss
        self.options, self.random_state, self.verbose = options, random_state, verbose

    def fit(self, X: Any, y: Any, **given: Any) -> "ImageRegressor":
        """Train on n paths and their numbers, (n,) or (n, K).

        Raises:
            UnfitInput: for no paths, unreadable files, numbers that are not finite, or sample weights.
            TlkitError: for options that do not fit the images.
        """
        if given:
            raise UnfitInput(
                f"ImageRegressor.fit takes no {', '.join(given)}.", "leave it out: all images have the same weight."
            )
        if y is None:
            raise UnfitInput("requires y to be passed, but the target y is None.", "give a number for each path.")
        images = images_of(X, self._story)
        numbers = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(images.paths, numbers)
        self._flat = numbers.ndim == 1
        columns = numbers.reshape(len(numbers), -1)
        names = tuple(f"y{place}" for place in range(columns.shape[1])) if not self._flat else ("y",)
        self._fitted(replace(images, classes=names, targets=columns))
        self.margins_ = self._opened()[1].margins
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicted numbers float64 of n paths, (n,) or (n, K) as given to `fit`."""
        numbers, _ = self._logits(X)
        return numbers[:, 0].astype(np.float64) if self._flat else numbers.astype(np.float64)

    def __sklearn_tags__(self) -> Any:
        """Declare that the input is paths, not a table of numbers, and the output may be several numbers."""
        tags = _of_paths(super().__sklearn_tags__())
        tags.target_tags.multi_output = True
        return tags


_networks: WeakKeyDictionary[_Finetuned, tuple[FeatureSource, Any]] = WeakKeyDictionary()
"""Open networks, kept outside the estimators, so that predicting does not change an estimator and no pickle contains
one."""


def _trained(config: FinetuneConfig, images: Dataset, folder: Path, story: Story) -> tuple[bytes, str, Any]:
    """Train; return the bytes of the classifier's file, the reason for the choice, and the opened network."""
    import tlkit.backbones.runtime as runtime  # first, so that the backend starts without log output
    from tlkit.classifier.model import network_of, save
    from tlkit.data.decode import check
    from tlkit.data.split import split
    from tlkit.training import crossing, minutes
    from tlkit.training.checkpoint import FolderSink
    from tlkit.training.stages import build_parts
    from tlkit.training.train import train

    runtime.seed_everything(config.seed)
    _refuse_problems(check(images, story=story))
    splits = split(images, val=config.val, test=0.0, seed=config.seed)
    splits = crossing.join_few(config, images, splits)
    parts = build_parts(config, images, story)
    budget = minutes.budget(config)
    done = train(images, splits, parts, config, FolderSink(folder), budget=budget, story=story)
    shipped, file = done.calibrated(), folder / "model.keras"
    save(shipped, file)
    opened = replace(FeatureSource.of_file(file, LOGITS), model=network_of(shipped))
    return file.read_bytes(), done.choice.reason if done.choice else "", (opened, shipped.facts)


# -- Inputs: paths, and options by name ---------------------------------------------------


def images_of(X: Any, story: Story) -> Dataset:
    """The files of n paths, hashed, without labels.

    Args:
        X: list, array, Series or one-column table of paths.
        story: receives progress.

    Raises:
        UnfitInput: for anything else, missing files or files that are not images.
    """
    paths = _paths(X)
    digests, sizes = _known_contents(paths, story)
    sha256 = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    return Dataset.of_files(Path.cwd(), paths, sha256, np.array(sizes, np.int64))


def _paths(X: Any) -> list[str]:
    """The paths as text."""
    if isinstance(X, (str, os.PathLike)):
        raise UnfitInput(f"X is one path, {str(X)!r}, expected a list of them.", "write [path].")
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise UnfitInput(f"X has shape {values.shape}, expected (n,) paths of images.", "give one path for each image.")
    if not len(values):
        raise UnfitInput("Found array with 0 sample(s): X holds no path.", "give at least one path.")
    strange = [it for it in values if type(it) is not str and not isinstance(it, (str, os.PathLike))]
    if strange:
        raise UnfitInput(
            f"X holds {strange[0]!r} ({type(strange[0]).__name__}), expected paths of images.",
            "for images in memory use `tlkit.load(run).predict`, or write them to files first.",
        )
    return list(map(os.fspath, values))


_contents: dict[tuple[int, int, int, int], bytes] = {}  # device, inode, size, time of change in ns -> sha256


def _known_contents(paths: list[str], story: Story) -> tuple[list[bytes], list[int]]:
    """sha256 and size of files; a file that is unchanged since it was last read is not read again."""
    wanted = list(map(_stamp, paths))
    found: list[Any] = list(map(_contents.get, wanted))
    new = {wanted[i]: i for i, digest in enumerate(found) if digest is None}
    if new:
        read = read_contents(Path.cwd(), [paths[i] for i in new.values()], story, all_meant=True)
        _refuse_problems(read.problems)
        digests = {stamp: row.tobytes() for stamp, row in zip(new, read.sha256, strict=True)}
        if len(_contents) + len(digests) > REMEMBERED:
            _contents.clear()
        quiet = (time.time() - SETTLED_AFTER) * 1e9  # a later change may hide another within the clock's tick
        _contents.update({stamp: digest for stamp, digest in digests.items() if stamp[3] < quiet})
        found = [digest or digests[stamp] for stamp, digest in zip(wanted, found, strict=True)]
    return found, [stamp[2] for stamp in wanted]


def _stamp(path: str) -> tuple[int, int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - faster, called a million times
    except (OSError, ValueError) as error:
        raise UnfitInput(
            f"{path!r} cannot be read: {getattr(error, 'strerror', None) or error}.",
            f"paths are taken from {str(Path.cwd())!r}; correct the path, or leave the image out.",
        ) from None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _refuse_problems(problems: Any) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UnfitInput(f"{problems[0].path!r}: {problems[0].reason}{more}.", "repair it, or leave the image out.")


_recent: dict[tuple[str, bytes], np.ndarray] = {}  # the rows read last, by source and images


def _rows(source: FeatureSource, images: Dataset, story: Story) -> np.ndarray:
    """Every row, float32 (n, C). Rows read recently are cached, for a search reads each fold once per setting."""
    key = repr([source.describe(output, {}) for output in source.outputs]), images.sha256.tobytes()
    if (found := _recent.get(key)) is None:
        extraction = source.extract(images, story=story)
        _refuse_problems(extraction.problems)
        found = extraction.rows.flat()
        while _recent and found.nbytes + sum(rows.nbytes for rows in _recent.values()) > RECENT_BYTES:
            del _recent[next(iter(_recent))]
        if found.nbytes <= RECENT_BYTES:
            _recent[key] = found
    return found.copy()


def _allowed(estimator: BaseEstimator, options: Mapping[str, Any] | None, names: tuple[str, ...]) -> dict[str, Any]:
    """The further options, refused if unknown."""
    given = dict(options or {})
    strange = [name for name in given if name not in names]
    if strange:
        raise UnfitInput(
            f"{type(estimator).__name__}(options=...) has {', '.join(map(repr, strange))}, which it does not take "
            "there.",
            f"known: {', '.join(names)}.",
        )
    return given


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Restore the random state of Python and NumPy on exit, because training seeds both."""
    kept = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])


def _of_paths(tags: Any) -> Any:
    tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = False, True, True
    return tags
