"""`build_backbone`: a name or a file in, a backbone out; any Keras model can be one, cut at its last spatial layer."""

import importlib
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from tlkit.backbones import applications
from tlkit.backbones import weights as pretrained
from tlkit.backbones.applications import NANO_WEIGHTS
from tlkit.backbones.blocks import Block, find_blocks
from tlkit.backbones.graph import Call, calls, cuts, foreign_layers, replay
from tlkit.backbones.weight_files import backbone_file, is_path, weights_at_hand
from tlkit.base.errors import TlkitError, first_line
from tlkit.base.files import is_full
from tlkit.base.process import seeded
from tlkit.base.story import PlainStory, Story
from tlkit.options.catalog import CLASS_POOLINGS, Family, backbone_row, family_of


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network without its classifier: images in, grid out.

    Args:
        name: catalogue name with its variants in one spelling, or the path of a user's file.
        model: one flat functional graph; input `images` float32 (B, H, W, 3), RGB 0..255; output the grid.
        image_size: (H, W).
        preprocess: mode of the preprocessing inside; `identity` for user models, a family's prefix for its own scaling.
        weights: `imagenet`, `none` or the path they were read from.
        weights_sha256: fingerprint of the values.
        blocks: from input to output, covering every layer once.
        foreign: classes of its layers that are not Keras's own; a file of it needs the package that defines them.
        summary: tensor (B, C) of the same graph that summarises the whole image, such as a class token; None without one.
    """

    name: str
    model: keras.Model
    image_size: tuple[int, int]
    preprocess: str
    weights: str
    weights_sha256: str
    blocks: tuple[Block, ...]
    foreign: tuple[str, ...] = ()
    summary: Any = None

    def layers_of(self, start: int, end: int) -> list[keras.layers.Layer]:
        """Layers of the blocks from `start` to `end`, exclusive."""
        return [self.model.get_layer(name) for block in self.blocks[start:end] for name in block.layers]

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """(h, w, C) of the output."""
        _, height, width, channels = self.model.outputs[0].shape
        return (height, width, channels)

    def read_as(self, pooling: str) -> "Backbone":
        """The same with the grid that a pooling reads: for poolings of a class token, a grid of one cell.

        Args:
            pooling: `cls`, the class token, or the network's substitute for it; `cls+avg`, that followed by the mean of the
                grid (2 C channels, as in probes of DINOv2, Oquab et al. 2023); any other leaves the grid unchanged.

        Raises:
            TlkitError: it has no class token.
        """
        if pooling not in CLASS_POOLINGS:
            return self
        if self.summary is None:
            raise TlkitError(
                f"{self.name} has no class token that the pooling {pooling!r} could read.",
                "pool by avg, max or concat, or choose a vision transformer such as hub:dinov2_small.",
            )
        cell = self.summary
        if pooling == "cls+avg":
            mean = keras.layers.GlobalAveragePooling2D(name="patch_mean")(self.model.output)
            cell = keras.layers.Concatenate(name="class_token_and_mean")([cell, mean])
        cell = keras.layers.Reshape((1, 1, cell.shape[-1]), name="class_cell")(cell)
        model = keras.Model(self.model.input, cell, name=self.model.name)
        fingerprint = pretrained.weights_sha256(model)
        return replace(self, model=model, weights_sha256=fingerprint, blocks=find_blocks(model), summary=None)


def build_backbone(
    spec: str | Path,
    *,
    weights: str | Path = "imagenet",
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    story: Story | None = None,
) -> Backbone:
    """Build a backbone with its preprocessing inside and its weights in place.

    Args:
        spec: a name of the catalogue in any case, with variants after a colon (`mobilenetv2:alpha=0.35`); the path of
            a `.keras` file, which is cut at its last spatial layer; or a name of another family (`hub:resnet_18_imagenet`).
        weights: `imagenet`, `none` (random, reproduced by `seed`) or the path of a `.h5`, `.weights.h5` or `.keras`
            file. A user's file has its own, which `imagenet` keeps.
        image_size: side, or (height, width); native by default.
        seed: of random weights.
        story: reports a download; by default as lines on stderr.

    Raises:
        TlkitError: unknown name or variant, image too small, weights missing or of another network.
    """
    if keras.config.image_data_format() != "channels_last":
        raise TlkitError(
            "Keras is set to channels_first; tlkit's images and grids have their channels last.",
            'set "image_data_format": "channels_last" in keras.json, or remove that line.',
        )
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if family := family_of(str(spec)):
        return _of_family(family, str(spec), str(weights), size, seed, story or PlainStory())
    if is_path(str(spec)):
        return _from_file(Path(spec), str(weights), size, seed)
    row = backbone_row(str(spec))
    variants = applications.parse_variants(row, str(spec))
    name = applications.canonical_name(row, variants)
    size = size or (row.image_size, row.image_size)
    applications.check_size(row, size)
    network = applications.build_network(row, variants, size, seed)
    if weights == "imagenet":
        pretrained.load_imagenet(network, row, variants, size, story)
    elif weights != "none":
        pretrained.load_file(network, Path(weights))
    model = applications.flatten(row, network, _graph_name(name))
    return _backbone(name, model, size, row.preprocess, str(weights))


def files_of(spec: str, weights: str, image_size: tuple[int, int]) -> list[Path]:
    """The files that the weights of a backbone with these options are read from; none where they are random, or not known."""
    if weights == "none":
        return []
    given = [] if weights == "imagenet" else [Path(weights)]
    if family := family_of(spec):
        files = getattr(importlib.import_module(family.module), "files", None)
        own: list[Path] = files(spec) if files else []
        return [*own, *given] if own else []
    if is_path(spec):
        return [Path(spec), *given]
    row = backbone_row(spec)
    if given or not row.attribute:
        return given or [NANO_WEIGHTS]
    found = weights_at_hand(row, applications.parse_variants(row, spec), image_size)
    return [found] if found else []


def _from_file(path: Path, weights: str, size: tuple[int, int] | None, seed: int) -> Backbone:
    model = build_from_file(path, size, random_weights=weights == "none", seed=seed)
    if weights not in ("imagenet", "none"):
        pretrained.load_file(model, Path(weights))
    _, height, width, _ = model.inputs[0].shape
    return _backbone(str(path), model, (height, width), "identity", str(path) if weights == "imagenet" else weights)


def _of_family(
    family: Family, spec: str, weights: str, size: tuple[int, int] | None, seed: int, story: Story
) -> Backbone:
    """A network with its own weights (`imagenet` keeps them), random ones, or those of a file."""
    build = importlib.import_module(family.module).build
    whole = build(spec, size, random_weights=weights != "imagenet", seed=seed, story=story)
    grid, *summary = whole.outputs
    model = keras.Model(whole.input, grid, name=whole.name) if summary else whole
    if weights not in ("imagenet", "none"):
        pretrained.load_file(model, Path(weights))
    _, height, width, _ = model.inputs[0].shape
    own = spec if weights == "imagenet" else weights
    backbone = _backbone(spec, model, (height, width), family.prefix, own)
    return replace(backbone, foreign=foreign_layers(model), summary=summary[0] if summary else None)


def _backbone(name: str, model: keras.Model, size: tuple[int, int], preprocess: str, weights: str) -> Backbone:
    fingerprint = pretrained.weights_sha256(model)
    return Backbone(name, model, size, preprocess, weights, fingerprint, find_blocks(model))


def _graph_name(name: str) -> str:
    """A name that Keras accepts for a model: `mobilenetv2:alpha=0.35` -> `mobilenetv2_alpha_0_35`."""
    return "".join(character if character.isalnum() else "_" for character in name)


# -- Any Keras model as a backbone: a `.keras` file, cut at its last spatial layer ---

DEFAULT_SIDE = 224  # of models that take any size


def read_model(path: Path) -> keras.Model:
    """Load a `.keras` file, refusing code inside it.

    Raises:
        TlkitError: missing, not a Keras file, with custom code, or with several inputs.
    """
    if backbone_file(path).suffix.lower() != ".keras":
        raise TlkitError(
            f"{str(path)!r} is not a .keras file.",
            'load it in the Keras that wrote it and save it again with model.save("model.keras").',
        )
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zipfile, h5py, JSON and Keras each raise their own
        if is_full(error):
            raise
        if not zipfile.is_zipfile(path):  # Keras reports that there is no such file
            raise TlkitError(
                f"{str(path)!r} cannot be loaded: it is damaged, or was not saved by Keras.", "get it or save it again."
            ) from error
        raise TlkitError(
            f"{str(path)!r} cannot be loaded: {first_line(error)}",
            "models with Lambda layers or custom code are refused; rebuild it from layers of Keras only.",
        ) from error
    if len(model.inputs) != 1:
        raise TlkitError(
            f"{str(path)!r} has {len(model.inputs)} inputs; a backbone takes one, the image.",
            "save the part of it that reads the image as a model of its own.",
        )
    return model


def build_from_file(
    path: Path, image_size: tuple[int, int] | None, *, random_weights: bool = False, seed: int = 0
) -> keras.Model:
    """A user's model as a flat graph from images to its last spatial grid.

    By contract the model takes RGB 0..255; one that wants another range needs a `Rescaling` layer first.

    Args:
        path: a `.keras` file, Functional or Sequential, nested or not, with one image input (H, W, 3).
        image_size: height and width; by default the model's own, or 224 where it has none.
        random_weights: keep the architecture only.
        seed: of the random weights.

    Returns:
        Functional model, `images` float32 (H, W, 3) -> (h, w, C).

    Raises:
        TlkitError: cannot be loaded, takes no RGB image, cannot be rebuilt at that size, or has no spatial layer.
    """
    model = read_model(path)
    shape = (*_size(model, path, image_size), 3)
    with seeded(seed):
        try:
            take = not random_weights and _fits_as_it_is(model, shape)
            flat = _replayed(model, shape, path.stem, weights=not random_weights, take=take)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise TlkitError(
                f"{str(path)!r} cannot become a backbone for images of {shape[0]} by {shape[1]}: {error}",
                "a backbone is a Functional or Sequential Keras model; try its own image size.",
            ) from error
    graph = calls(flat)
    last = _last_spatial(graph, flat.outputs)
    if last is None:
        raise TlkitError(
            f"{str(path)!r} has no spatial layer: no output in it has the shape (batch, height, width, channels) before pooling.",
            "give a convolutional model, or one cut after its last convolution.",
        )
    if last < len(graph) - 1:
        flat = _replayed(flat, shape, path.stem, until=last, take=True)
    return flat


def _fits_as_it_is(model: keras.Model, shape: tuple[int, ...]) -> bool:
    """Whether its layers can be reused: they are not part of a nested network, and their weights suit the image size."""
    nested = any(isinstance(call.operation, keras.Model) for call in calls(model))
    return not nested and tuple(model.inputs[0].shape[1:]) == shape


def _replayed(model: keras.Model, shape: tuple[int, ...], name: str, **options: Any) -> keras.Model:
    images = keras.Input(shape, dtype="float32", name="images")
    return keras.Model(images, replay(model, images, **options), name=name)


def _size(model: keras.Model, path: Path, image_size: tuple[int, int] | None) -> tuple[int, int]:
    """The image size to build at, after checking that the input is an RGB image."""
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or shape[-1] not in (3, None):
        raise TlkitError(
            f"{str(path)!r} takes {shape}; a backbone takes images (batch, height, width, 3).",
            "give a model for RGB images, channels last.",
        )
    if image_size is not None:
        return image_size
    return (shape[1] or DEFAULT_SIDE, shape[2] or DEFAULT_SIDE)


def _last_spatial(graph: list[Call], outputs: list[Any]) -> int | None:
    """The last cut whose output is a grid of more than one cell, after some weights and before tlkit's own heads."""
    found, previous, learned = None, 0, False
    for index in cuts(graph, outputs):
        stretch = [call.operation for call in graph[previous : index + 1]]
        if any(operation.name.startswith("head_") for operation in stretch):
            break
        learned = learned or any(getattr(operation, "weights", None) for operation in stretch)
        shape = graph[index].outputs[0].shape
        if learned and len(shape) == 4 and (shape[1] or 0) * (shape[2] or 0) > 1:
            found = index
        previous = index + 1
    return found
