"""A frozen network and the outputs taken from it: the source of features, and the only place that makes keys of stored rows."""

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError, unknown_name
from tlkit.base.files import sha256_file
from tlkit.base.story import Story, percent
from tlkit.data.dataset import Dataset, InputContract
from tlkit.data.views import CENTRE, Augmentation
from tlkit.extraction.executors import refuse_not_finite, same_bytes
from tlkit.extraction.extract import LOGITS as LOGITS
from tlkit.extraction.extract import extract
from tlkit.extraction.room import make_room
from tlkit.extraction.store import Appender, Rows, Space, look_up, open_space, space_folder
from tlkit.options.commands import (
    AuditConfig,
    EvaluateConfig,
    FeaturesConfig,
    FinetuneConfig,
    NextConfig,
    PredictConfig,
    RankConfig,
)
from tlkit.options.groups import ALL, ExecutorOptions, Portion, ShardOptions, StoreOptions, parse_shard

if TYPE_CHECKING:
    import keras

    from tlkit.backbones.build import Backbone
    from tlkit.classifier.model import Classifier
    from tlkit.extraction.engine import Engine

FEATURES = "features:avg"  # the input of the familiarity of a finished classifier
ANSWERS = ("answers:logits", "answers:unfamiliarity")  # in the order of the outputs of `watching`
PRECISIONS = ("float32", "bfloat16")
HELD_ENOUGH = 0.5  # share of the images in the store from which it settles their precision

Asking = AuditConfig | EvaluateConfig | FeaturesConfig | FinetuneConfig | NextConfig | RankConfig


class Tap(NamedTuple):
    """An output taken from a network: that of a layer, as it is or pooled (`avg`, `max`, `concat`)."""

    layer: str
    pooling: str | None = None

    @property
    def name(self) -> str:
        """Its name in the store."""
        return f"{self.layer}:{self.pooling}" if self.pooling else self.layer

    @classmethod
    def for_head(cls, layer: str, reads: str, pooling: str) -> "Tap":
        """The input of a head: the grid, `pooled` or all of it."""
        return cls(layer, pooling if reads == "pooled" else None)


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureSource:
    """A frozen network with named outputs, its input contract, and how its outputs are computed and stored.

    Args:
        model: images (B, H, W, 3), 0..255 -> one tensor for each output; or a function that builds it when it is
            needed; None where it is not available, and only the store can be read.
        outputs: names, in the model's order; a name identifies the layer and pooling.
        weights_sha256: of the network the outputs are taken from.
        contract: how an image becomes pixels.
        name: of the network, for display.
        stored_as: `float32`, or `float16` for half the space and three digits; rows are read as float32.
        engine_name: of the engine, see `build_engine`; or `auto`.
        precision: of multiplications, `float32` or `bfloat16`; `auto` is settled for the given images.
        batch_size: images per forward pass; fewer where there are few.
        executor: where it is computed, see `executors.opened`.
        share: of the images, which is computed here.
        shapes: of a row of each output, where they are known without the model.
        quick: number of images -> an engine in float32 that needs no model, or None; called when so many must be computed.
    """

    model: "keras.Model | Callable[[], keras.Model] | None"
    outputs: tuple[str, ...]
    weights_sha256: str
    contract: InputContract
    name: str = ""
    stored_as: str = "float32"
    engine_name: str = "auto"
    precision: str = "float32"
    batch_size: int = 32
    executor: str = "here"
    share: Portion = ALL
    shapes: tuple[tuple[int, ...], ...] | None = None
    quick: "Callable[[int], Engine | None] | None" = None

    # -- where a source comes from

    @classmethod
    def of_backbone(cls, backbone: "Backbone", contract: InputContract, *taps: Tap) -> "FeatureSource":
        """A backbone up to some of its layers; by default up to its last one, averaged."""
        taps = taps or (Tap(backbone.model.layers[-1].name, "avg"),)
        model, names = _tapped(backbone.model, taps), tuple(tap.name for tap in taps)
        return cls(
            model=model, outputs=names, weights_sha256=backbone.weights_sha256, contract=contract, name=backbone.name
        )

    @classmethod
    def of_classifier(cls, classifier: "Classifier") -> "FeatureSource":
        """The averaged grid of a classifier; its rows are shared with any network that has the same backbone weights.

        For a classifier of clips, the grid of each frame, pooled as its head reads it.
        """
        from tlkit.backbones.weights import weights_sha256
        from tlkit.classifier.model import of_images

        clip, below = classifier.facts.clip, of_images(classifier)
        tap = Tap(classifier.facts.grid_layer, clip.pooling if clip else "avg")
        return cls(
            model=_tapped(below, (tap,)),
            outputs=(tap.name,),
            weights_sha256=weights_sha256(below),
            contract=classifier.facts.contract,
        )

    @classmethod
    def of_file(cls, path: Path, *outputs: str) -> "FeatureSource":
        """The outputs of a classifier's file: its `LOGITS`, and `FEATURES` where they are asked for."""
        from tlkit.classifier.facts import read_facts

        facts = read_facts(path)
        return cls(
            model=partial(_loaded, path, FEATURES in outputs),
            outputs=outputs,
            weights_sha256=sha256_file(path),
            contract=facts.contract,
            name=facts.backbone,
        )

    @classmethod
    def of_answers(cls, path: Path, config: PredictConfig, build: "Callable[[], Engine]") -> "FeatureSource":
        """The outputs of `watching` for the classifier in a file: logits, and unfamiliarity where there is a reference.

        Args:
            path: of the classifier, identified by the checksums of its members in the archive's directory.
            config: of the command.
            build: the engine, called where something has to be computed.
        """
        from tlkit.classifier.facts import FAMILIARITY, read_facts

        facts = read_facts(path)
        with zipfile.ZipFile(path) as archive:
            members = sorted((member.filename, member.CRC) for member in archive.infolist())
        outputs = ANSWERS[: 1 + any(name == FAMILIARITY for name, _ in members)]
        return cls(
            model=None,
            outputs=tuple(f"{output}:{config.tta}" for output in outputs),
            weights_sha256=hashlib.sha256(repr(members).encode()).hexdigest(),
            contract=facts.contract,
            name=f"answers of {facts.backbone}",
            precision=config.precision,
            batch_size=config.batch_size,
            share=parse_shard(config.shard),
            executor=config.executor,
            shapes=((len(facts.classes),), ())[: len(outputs)],
            quick=lambda images: build(),
        )

    def asked(self, config: Asking) -> "FeatureSource":
        """The same, computed and stored with the options of a command."""
        return replace(
            self,
            engine_name=config.engine,
            precision=config.precision,
            batch_size=config.batch_size,
            stored_as=config.stored_as if isinstance(config, StoreOptions) else self.stored_as,
            share=parse_shard(config.shard) if isinstance(config, ShardOptions) else self.share,
            executor=config.executor if isinstance(config, ExecutorOptions) else self.executor,
        )

    # -- what it gives

    extract = extract  # its rows, from the store where it has them, and what the extraction took

    def rows(
        self,
        dataset: Dataset,
        view: int = CENTRE,
        *,
        augmentation: Augmentation | None = None,
        story: Story | None = None,
    ) -> Rows:
        """The rows of one view of its first output, one for each image; those of unreadable images are missing."""
        return self.extract(dataset, views=(view,), augmentation=augmentation, story=story).rows

    def stored(self, sha256: np.ndarray) -> Rows:
        """The rows of its first output that the store has now, for images uint8 (n, 32); nothing is computed."""
        return Rows(look_up(self.space(self.outputs[0]), sha256))

    @contextmanager
    def keeping(self, dataset: Dataset, story: Story) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
        """Gives a function that stores rows of its first output where the store lacks them.

        It takes positions int64 (n,) in the dataset and float32 (n, ...): rows that were computed on another way through the
        same network, so that they are not computed again.
        """
        new = np.zeros(len(dataset), bool)
        new[same_bytes(dataset)[0]] = True
        new &= self.stored(dataset.sha256).lacking
        make_room(int(new.sum()) * self.row_bytes(self.outputs[0]), story)
        with Appender(self.space(self.outputs[0])) as appender:

            def keep(positions: np.ndarray, rows: np.ndarray) -> None:
                refuse_not_finite(self, [rows], lambda row: dataset.paths[positions[row]])
                kept = new[positions]
                appender.append(dataset.sha256[positions[kept]], rows[kept])

            yield keep

    # -- its keys

    def describe(self, output: str, view: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that decides a stored row apart from the image: with its content it is the key of the row."""
        return {
            "weights": self.weights_sha256,
            "output": output,
            "contract": self.contract.as_json(),
            "precision": self.precision,
            "stored": self.stored_as,
            **view,
        }

    def space(self, output: str, augmentation: Augmentation | None = None, view: int = CENTRE) -> Space:
        """The space that stores the rows of an output."""
        seen = (augmentation or Augmentation(strength="none")).describe(view)
        return open_space(self.describe(output, seen), {"network": self.name})

    @property
    def begun(self) -> bool:
        """Whether the store already has a space for its rows; creates none."""
        seen = Augmentation(strength="none").describe(CENTRE)
        return all(space_folder(self.describe(output, seen)).is_dir() for output in self.outputs)

    # -- what computes it

    @cached_property
    def built(self) -> "keras.Model":
        """The model."""
        return self.model() if isinstance(self.model, FunctionType | partial) else self.model

    @cached_property
    def engine(self) -> "Engine":
        """Its forward pass, built on first use: a run that finds everything in the store never builds it."""
        from tlkit.extraction.engine import build_engine  # loads Keras

        return build_engine(self.built, engine=self.engine_name, precision=self.precision)

    def engine_for(self, images: int) -> "Engine":
        """The fastest forward pass for so many images; it becomes `engine`."""
        if "engine" not in self.__dict__ and self.precision == "float32":
            found = self.quick(images) if self.quick else None
            if found is None and self.engine_name == "auto":
                from tlkit.extraction.engine import lean_engine  # loads Keras

                found = lean_engine(self.built, images)
            if found:
                self.__dict__["engine"] = found
        return self.engine

    def computed_by(self, engine: "Engine | None") -> "FeatureSource":
        """The same without its network, computed by an engine that is already open, or not at all."""
        found = replace(self, model=None, quick=None)
        if engine:
            found.__dict__["engine"] = engine  # as if built on first use
        return found

    def row_bytes(self, output: str) -> int:
        """Bytes of one float32 row of an output."""
        place = self.outputs.index(output)
        return 4 * int(np.prod(self.shapes[place] if self.shapes else self.built.outputs[place].shape[1:]))

    def in_each_precision(self) -> tuple["FeatureSource", ...]:
        """The same in the precisions that its rows may have been computed in."""
        kinds = PRECISIONS if self.precision == "auto" else (self.precision,)
        return tuple(replace(self, precision=kind) for kind in kinds)

    def settled(self, dataset: Dataset, story: Story) -> "FeatureSource":
        """The same in one precision: where either is allowed, that of most rows in the store, else by trial."""
        if self.precision != "auto":
            return self
        held = {one: 1 - float(one.stored(dataset.sha256).lacking.mean()) for one in self.in_each_precision()}
        most = max(held, key=lambda one: held[one])
        if held[most] >= HELD_ENOUGH:
            story.say(f"precision {most.precision}: the store holds {percent(held[most])} of the images in it")
            return most
        from tlkit.extraction.engine import settle_engine, too_few

        if too_few(len(dataset), story):
            return replace(self, precision="float32")
        labels = None if self.outputs[0] == LOGITS else dataset.labels
        found = settle_engine(
            self.built,
            dataset.files,
            self.contract,
            engine=self.engine_name,
            precision="auto",
            labels=labels,
            story=story,
        )
        settled = replace(self, model=self.built, precision=found.precision)
        settled.__dict__["engine"] = found  # as if built on first use
        return settled


def evidence_space(model_sha256: str, contract: InputContract, cells: int) -> Space:
    """The space of the maps of evidence for the predicted class, `cells` x `cells` per image.

    Args:
        model_sha256: of the file of the classifier.
        contract: how its images become pixels.
        cells: of a map along each side.
    """
    key = {"weights": model_sha256, "output": f"evidence:{cells}", "contract": contract.as_json()}
    return open_space(key | {"precision": "float32"})


def find_tap(backbone: "Backbone", layer: str | None, pooling: str) -> Tap:
    """The output of a layer of a backbone, by default its last one; a grid is pooled unless `pooling` is `none`.

    Raises:
        TlkitError: when the layer does not exist or its output is neither a grid nor a vector.
    """
    names = [found.name for found in backbone.model.layers]
    if layer is not None and layer not in names:
        raise unknown_name(f"a layer of {backbone.name}", layer, names)
    name = layer or names[-1]
    shape = tuple(backbone.model.get_layer(name).output.shape)
    if len(shape) not in (2, 4):
        raise TlkitError(
            f"--layer {name} gives {shape}, expected a grid (B, h, w, C) or vectors (B, C).",
            "choose a convolution, an activation or a pooling layer.",
        )
    return Tap(name, pooling if pooling != "none" and len(shape) == 4 else None)


def _tapped(model: "keras.Model", taps: Sequence[Tap]) -> "keras.Model":
    """The model up to the taps; unchanged where there are none."""
    import keras

    from tlkit.classifier.heads.build import pool
    from tlkit.classifier.model import output_of

    outputs = [output_of(model, tap.layer) for tap in taps]
    outputs = [pool(out, tap.pooling) if tap.pooling else out for out, tap in zip(outputs, taps, strict=True)]
    return keras.Model(model.input, outputs[0] if len(outputs) == 1 else outputs)


def _loaded(path: Path, features: bool) -> "keras.Model":
    """The classifier, with the features that its familiarity reads where they are asked for."""
    from tlkit.classifier.model import load, with_features

    classifier = load(path)
    return with_features(classifier) if features else classifier.model
