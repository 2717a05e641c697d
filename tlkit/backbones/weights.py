"""Where pretrained weights come from, how they get into a network, and their fingerprint."""

import hashlib
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.backbones.applications import load_nano_weights
from tlkit.backbones.graph import calls, copy_weights, functional
from tlkit.backbones.runtime import values_of
from tlkit.backbones.weight_files import at_hand, given_weights, weight_file
from tlkit.backbones.weight_transfer import fetch, wrong_with
from tlkit.base.errors import TlkitError, first_line
from tlkit.base.story import PlainStory, Story
from tlkit.options.catalog import BackboneRow


def load_imagenet(
    network: keras.Model,
    row: BackboneRow,
    variants: Mapping[str, Any],
    image_size: tuple[int, int],
    story: Story | None = None,
) -> None:
    """Fill a network made by `applications.build_network` with its pretrained weights, downloading them if need be.

    Raises:
        TlkitError: without the file and without a way to get it; it names the file, its folder and the ways out.
    """
    if not row.attribute:
        _load_nano(network)
        return
    file = weight_file(row, variants, image_size)
    found = at_hand(file.name) or fetch(file, story or PlainStory())
    try:
        if wrong := wrong_with(file, found):
            raise TlkitError(f"{str(found)!r} does not hold the weights of {file.spec}: {wrong}.")
        load_file(network, found)
    except TlkitError as error:
        raise TlkitError(
            error.message, f"delete {found} and run `tlkit weights fetch {file.spec}`, or copy it anew."
        ) from error


def _load_nano(network: keras.Model) -> None:
    try:
        load_nano_weights(network)
    except (OSError, ValueError) as error:
        raise TlkitError(
            f"the weights of nano are missing from this installation of tlkit or damaged: {error}",
            "install tlkit again, or start from random weights with --weights none.",
        ) from error


def load_file(network: keras.Model, path: Path) -> None:
    """Fill a network from a file: `.keras` (a model that contains it), `.weights.h5` or a legacy `.h5` of weights.

    Raises:
        TlkitError: the file is missing, unreadable, or of another network.
    """
    if not given_weights(path).name.endswith((".keras", ".h5")):
        raise TlkitError(
            f"{str(path)!r} is not a weight file by its name.", "give a .h5, .weights.h5 or .keras file to --weights."
        )
    try:
        if path.suffix == ".keras":
            _take_from_model(network, keras.models.load_model(path, compile=False))
        else:
            network.load_weights(path)
    except TlkitError:
        raise
    except Exception as error:  # h5py, zipfile and Keras each raise their own
        raise TlkitError(
            f"{str(path)!r} does not fit {network.name}: {first_line(error)}",
            "the weights must be of the same network and variant, without its classifier (include_top=False).",
        ) from error


def _take_from_model(network: keras.Model, source: keras.Model) -> None:
    """Copy weights from a whole model whose first weighted layers are this network's, by name or else by order."""
    wanted = _weighted_layers(network)
    offered = _weighted_layers(source)
    by_name = {layer.name: layer for layer in offered}
    named = [by_name[layer.name] for layer in wanted if layer.name in by_name]
    matching = named if [_shapes(layer) for layer in named] == [_shapes(layer) for layer in wanted] else offered
    for layer, other in itertools.zip_longest(wanted, matching[: len(wanted)]):
        if other is None or _shapes(layer) != _shapes(other):
            raise ValueError(f"it has no layer with weights like those of {layer.name}, {_shapes(layer)}")
    for layer, other in zip(wanted, matching, strict=False):
        copy_weights(other, layer)


def _weighted_layers(model: keras.Model) -> list[Any]:
    """Layers that have weights, nested ones too, in the order of the graph."""
    found: dict[int, Any] = {}
    for call in calls(functional(model)):
        if isinstance(call.operation, keras.Model):
            found |= {id(layer): layer for layer in _weighted_layers(call.operation)}
        elif getattr(call.operation, "weights", None):
            found[id(call.operation)] = call.operation
    return list(found.values())


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def weights_sha256(model: keras.Model) -> str:
    """Hex sha256 over layer names, shapes and values: equal weights give the same, from whatever file they came."""
    digest = hashlib.sha256()
    for layer in model.layers:
        for weight in layer.weights:
            (value,) = values_of([weight])
            name = "variable" if re.fullmatch(r"variable_\d+", weight.name) else weight.name  # one that Keras made up
            digest.update(f"{layer.name}/{name} {value.shape} {value.dtype}\n".encode())
            digest.update(value.reshape(-1).view(np.uint8).data)  # in place: a copy takes as long as the sum
    return digest.hexdigest()
