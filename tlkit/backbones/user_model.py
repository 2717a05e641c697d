"""Any Keras model as a backbone: a `.keras` file, cut at its last spatial layer."""

from pathlib import Path
from typing import Any

import keras

from tlkit.backbones.graph import Call, calls, cuts, replay
from tlkit.base.errors import TlkitError, first_line
from tlkit.base.process import seeded

DEFAULT_SIDE = 224  # of models that take any size


def is_path(spec: str) -> bool:
    """Whether a backbone is given as a file rather than as a name of the catalogue."""
    return spec.lower().endswith((".keras", ".h5")) or "/" in spec or "\\" in spec


def read_model(path: Path) -> keras.Model:
    """Load a `.keras` file, refusing code inside it.

    Raises:
        TlkitError: missing, not a Keras file, with custom code, or with several inputs.
    """
    if not path.is_file():
        raise TlkitError(
            f"{str(path)!r} does not exist.", "--backbone takes a name from `tlkit backbones` or a .keras file."
        )
    if path.suffix.lower() != ".keras":
        raise TlkitError(
            f"{str(path)!r} is not a .keras file.",
            'load it in the Keras that wrote it and save it again with model.save("model.keras").',
        )
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zipfile, h5py, JSON and Keras each raise their own
        raise TlkitError(
            f"{str(path)!r} cannot be loaded: {first_line(error)}",
            "models with Lambda layers or custom code are refused; rebuild it from layers of Keras alone.",
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
        image_size: height and width; the model's own unless given, 224 where it has none.
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
            flat = _replayed(model, shape, path.stem, weights=not random_weights)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise TlkitError(
                f"{str(path)!r} cannot become a backbone for images of {shape[0]} by {shape[1]}: {error}",
                "a backbone is a Functional or Sequential Keras model; try its own image size.",
            ) from error
    graph = calls(flat)
    last = _last_spatial(graph, flat.outputs)
    if last is None:
        raise TlkitError(
            f"{str(path)!r} has no spatial layer: nothing in it gives (batch, height, width, channels) before it pools.",
            "give a convolutional model, or one cut after its last convolution.",
        )
    if last < len(graph) - 1:
        flat = _replayed(flat, shape, path.stem, until=last)
    return flat


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
