"""`build_backbone`: a name or a file in, a backbone out."""

import importlib
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from tlkit.backbones import applications, user_model
from tlkit.backbones import weights as pretrained
from tlkit.backbones.blocks import Block, find_blocks
from tlkit.backbones.graph import foreign_layers
from tlkit.backbones.nano import NANO_WEIGHTS
from tlkit.backbones.weight_files import weights_at_hand
from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory, Story
from tlkit.options.catalog import Family, backbone_row, family_of


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
        foreign: classes of its layers that are not Keras's own; a file of it needs the package that has them.
    """

    name: str
    model: keras.Model
    image_size: tuple[int, int]
    preprocess: str
    weights: str
    weights_sha256: str
    blocks: tuple[Block, ...]
    foreign: tuple[str, ...] = ()

    def layers_of(self, start: int, end: int) -> list[keras.layers.Layer]:
        """Layers of the blocks from `start` on, `end` not included."""
        return [self.model.get_layer(name) for block in self.blocks[start:end] for name in block.layers]

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """(h, w, C) of the output."""
        _, height, width, channels = self.model.outputs[0].shape
        return (height, width, channels)


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
            file. A user's file brings its own, and `imagenet` keeps them.
        image_size: side, or (height, width); native unless given.
        seed: of random weights.
        story: hears of a download; lines on stderr unless given.

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
    if user_model.is_path(str(spec)):
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
    """The files that the weights of a backbone built from these were read from; none where they are random."""
    if weights == "none" or family_of(spec):
        return []
    given = [] if weights == "imagenet" else [Path(weights)]
    if user_model.is_path(spec):
        return [Path(spec), *given]
    row = backbone_row(spec)
    if given or not row.attribute:
        return given or [NANO_WEIGHTS]
    found = weights_at_hand(row, applications.parse_variants(row, spec), image_size)
    return [found] if found else []


def _from_file(path: Path, weights: str, size: tuple[int, int] | None, seed: int) -> Backbone:
    model = user_model.build_from_file(path, size, random_weights=weights == "none", seed=seed)
    if weights not in ("imagenet", "none"):
        pretrained.load_file(model, Path(weights))
    _, height, width, _ = model.inputs[0].shape
    return _backbone(str(path), model, (height, width), "identity", str(path) if weights == "imagenet" else weights)


def _of_family(
    family: Family, spec: str, weights: str, size: tuple[int, int] | None, seed: int, story: Story
) -> Backbone:
    """A network with its own weights (`imagenet` keeps them), random ones, or those of a file."""
    build = importlib.import_module(family.module).build
    model = build(spec, size, random_weights=weights != "imagenet", seed=seed, story=story)
    if weights not in ("imagenet", "none"):
        pretrained.load_file(model, Path(weights))
    _, height, width, _ = model.inputs[0].shape
    own = spec if weights == "imagenet" else weights
    return replace(_backbone(spec, model, (height, width), family.prefix, own), foreign=foreign_layers(model))


def _backbone(name: str, model: keras.Model, size: tuple[int, int], preprocess: str, weights: str) -> Backbone:
    fingerprint = pretrained.weights_sha256(model)
    return Backbone(name, model, size, preprocess, weights, fingerprint, find_blocks(model))


def _graph_name(name: str) -> str:
    """A name that Keras takes for a model: `mobilenetv2:alpha=0.35` -> `mobilenetv2_alpha_0_35`."""
    return "".join(character if character.isalnum() else "_" for character in name)
