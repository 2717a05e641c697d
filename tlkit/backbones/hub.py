"""Presets of KerasHub as backbones: `hub:resnet_18_imagenet`, or `hub:FOLDER` for one saved on disk. Needs the extra `hub`."""

import importlib
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np

from tlkit.backbones.graph import functional, replay
from tlkit.backbones.transformers.convert import convert, family_module
from tlkit.backbones.weight_transfer import header_problem
from tlkit.base.errors import TlkitError, first_line, unknown_name
from tlkit.base.machine import install
from tlkit.base.process import seeded
from tlkit.base.remote import is_offline
from tlkit.base.story import Story
from tlkit.options.catalog import HUB
from tlkit.options.hub_presets import licence_of

KAGGLE = "kaggle://"
DEFAULT_SIDE = 224  # for presets that take any size and whose converter names none
TOLERANCE = 1e-4


def build(
    spec: str, image_size: tuple[int, int] | None, *, random_weights: bool, seed: int, story: Story
) -> keras.Model:
    """A preset as a flat graph from images to a grid, including the scaling of its image converter.

    Only the part that reads images is used (the vision encoder of CLIP and SigLIP). Vision transformers that
    `transformers/convert.py` knows become networks of Keras's own layers, of any image size that their patches divide;
    their patch tokens are the grid, and a second output summarises the whole image. In other networks, layers of KerasHub
    that only call Keras's own are replaced by those (`graph.replay`), and the rest is unchanged: if the output is tokens, those
    of patches are the grid, without class and register tokens, which come first; a network that pools by itself gives its
    vector as a grid of one cell.

    Args:
        spec: `hub:` and the name of a preset, a `kaggle://` handle, or a folder that `save_to_preset` wrote.
        image_size: height and width; by default the preset's own.
        random_weights: keep the architecture only.
        seed: of the random weights.
        story: reports a download.

    Returns:
        Functional model, `images` float32 (H, W, 3), 0..255 -> (h, w, C), and perhaps (C,).

    Raises:
        TlkitError: KerasHub is missing, or the preset is unknown, unreachable, or not a network from an image to a grid.
    """
    hub = _keras_hub(spec)
    folder = find_preset(spec, story)
    try:
        with seeded(seed), warnings.catch_warnings():
            # Keras warns about the masks of Swin's windows.
            warnings.filterwarnings("ignore", "Layer .* was passed an input with a mask", UserWarning)
            whole = hub.models.Backbone.from_preset(str(folder), load_weights=not random_weights)
        converter = hub.layers.ImageConverter.from_preset(str(folder))
    except Exception as error:  # KerasHub, Keras and h5py each raise their own
        raise TlkitError(
            f"{spec} cannot be loaded as a network of images from {folder}: {first_line(error)}",
            "a preset needs config.json, image_converter.json and model.weights.h5, and to be of images.",
        ) from error
    body = functional(getattr(whole, "vision_encoder", whole))
    grids = [tensor for tensor in body.outputs if len(tensor.shape) == 4 and tensor.shape[1]]
    if len(grids) == len(body.outputs) > 1:  # a pyramid, of which the coarsest is the grid
        body = keras.Model(body.inputs, min(grids, key=lambda tensor: tensor.shape[1]))
    if len(body.inputs) != 1 or len(body.inputs[0].shape) != 4 or len(body.outputs) != 1:
        raise TlkitError(f"{spec} does not map one image to one output.", "choose a preset of images only.")
    known = family_module(body) is not None
    size = _size(spec, body, converter, image_size, fixed=not known)
    scaling, name = _scaling(spec, converter), Path(folder).name.replace(".", "_")
    if known:
        converted = convert(body, size, scaling.scale, scaling.offset)
        return keras.Model(converted.input, converted.output, name=name)
    images = keras.Input((*size, 3), dtype="float32", name="images")
    try:
        with seeded(seed):
            output = replay(body, scaling(images))
    except TypeError as error:  # a layer of KerasHub that does not accept its own configuration, as in MiT of 0.32
        raise TlkitError(
            f"{spec} cannot be built from its layers: {first_line(error)[:200]}", "choose another preset."
        ) from error
    return keras.Model(images, _grid(spec, body, output, size), name=name)


def find_preset(spec: str, story: Story) -> Path:
    """The folder of a preset on this machine, downloaded if it is not here yet.

    Raises:
        TlkitError: no such preset; offline; Kaggle cannot be reached.
    """
    if found := preset_at_hand(spec):
        return found
    name = spec.removeprefix(HUB)
    handle = _handle(spec, name)
    kagglehub, cached = importlib.import_module("kagglehub"), _cached(handle)
    ways = (
        f"where there is a network, `tlkit weights fetch {spec}` prints where it puts the preset; copy that folder here, "
        f"and give it with --backbone {HUB}FOLDER."
    )
    if is_offline():
        raise TlkitError(f"{spec} is not in {cached}, and tlkit is offline.", ways)
    story.say(f"{spec}: downloading {handle} from kaggle.com into {cached}; {licence_of(name).sentence}.")
    try:
        return Path(kagglehub.model_download(handle))
    except Exception as error:  # requests, kagglehub and the operating system each raise their own
        raise TlkitError(
            f"{spec} cannot be downloaded from kaggle.com: {first_line(error)}",
            f"check the network (HTTPS_PROXY and REQUESTS_CA_BUNDLE are honoured); {ways}",
        ) from error


def files(spec: str) -> list[Path]:
    """All files of a preset; none if it is not on this machine."""
    folder = preset_at_hand(spec)
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []


def preset_at_hand(spec: str) -> Path | None:
    """The folder of a preset that is on this machine; None where it would have to be downloaded.

    Raises:
        TlkitError: no such preset, or KerasHub is missing.
    """
    name = spec.removeprefix(HUB)
    if name and Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    cached = _cached(_handle(spec, name))
    return cached if _is_whole(cached) else None


def _cached(handle: str) -> Path:
    """The folder in which kagglehub keeps a preset."""
    return Path(importlib.import_module("kagglehub.config").get_cache_folder()) / "models" / handle


def _keras_hub(spec: str) -> ModuleType:
    try:
        return importlib.import_module("keras_hub")
    except ImportError as error:
        raise TlkitError(
            f"{spec} is a preset of KerasHub, which is not installed here ({error}).", install("hub")
        ) from error


def _handle(spec: str, name: str) -> str:
    """The handle of a preset at Kaggle: owner/model/framework/variation/version."""
    if name.startswith(KAGGLE):
        return name.removeprefix(KAGGLE)
    presets = {key: row for key, row in _keras_hub(spec).models.Backbone.presets.items() if "kaggle_handle" in row}
    if name not in presets:
        raise unknown_name(
            "a preset of KerasHub, nor a folder",
            name,
            presets,
            f"https://keras.io/keras_hub/presets lists them; a folder that save_to_preset wrote also works: {HUB}FOLDER.",
        )
    return presets[name]["kaggle_handle"].removeprefix(KAGGLE)


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds a preset with all of its weights."""
    weights = list(folder.glob("*.weights.h5"))
    return bool(weights) and (folder / "config.json").is_file() and not any(map(header_problem, weights))


def _size(spec: str, body: Any, converter: Any, asked: tuple[int, int] | None, *, fixed: bool) -> tuple[int, int]:
    """The image size to build at: the one asked for, if the preset can have it; else its own."""
    _, height, width, _ = body.inputs[0].shape
    own = (height, width) if height and width else None
    if fixed and asked and own and asked != own:
        raise TlkitError(
            f"{spec} takes only images of {own[0]} by {own[1]}, not {asked[0]} by {asked[1]}.",
            f"give --image-size {own[0]}, or none." if own[0] == own[1] else "give no --image-size.",
        )
    return asked or own or converter.image_size or (DEFAULT_SIDE, DEFAULT_SIDE)


def _scaling(spec: str, converter: Any) -> Any:
    """The converter's scaling as one plain layer, checked against the converter itself.

    Resizing is not part of it: like all images, those for a preset are resized by tlkit (`--fit`).
    """
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    layer = keras.layers.Rescaling(_plain(scale), _plain(offset), dtype="float32", name="preprocess_scale")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3)).astype("float32")
    converter.image_size = None
    theirs = np.asarray(keras.ops.convert_to_numpy(converter(pixels)))
    ours = keras.ops.convert_to_numpy(layer(pixels))
    if theirs.shape != ours.shape or not np.allclose(theirs, ours, rtol=0, atol=TOLERANCE):
        raise TlkitError(
            f"the image converter of {spec} ({type(converter).__name__}) does more than scale and shift colours.",
            "tlkit cannot put that inside the network; choose another preset.",
        )
    return layer


def _plain(value: Any) -> Any:
    """A number, or a list with one for each channel."""
    return float(value) if np.ndim(value) == 0 else [float(one) for one in np.ravel(value)]


def _grid(spec: str, body: Any, output: Any, size: tuple[int, int]) -> Any:
    """The output as a grid (B, h, w, C): unchanged, the patch tokens of (B, N, C) arranged as a grid, or (B, C) as one cell."""
    if len(output.shape) == 4:
        return output
    if len(output.shape) == 2:
        return keras.layers.Reshape((1, 1, output.shape[1]), name="grid")(output)
    patch = getattr(body, "patch_size", None) or 0
    rows, columns = (patch, patch) if isinstance(patch, int) else patch
    if len(output.shape) != 3 or not rows or size[0] // rows * (size[1] // columns) > output.shape[1]:
        raise TlkitError(
            f"{spec} gives {tuple(output.shape)}, which is neither a grid nor tokens of patches.",
            "choose a preset of a convolutional network or a vision transformer.",
        )
    height, width = size[0] // rows, size[1] // columns
    first = output.shape[1] - height * width
    if first:
        output = keras.layers.Cropping1D((first, 0), name="patch_tokens")(output)
    return keras.layers.Reshape((height, width, output.shape[2]), name="grid")(output)
