"""Which file holds the ImageNet weights of a backbone, and where it is. Cold: Keras is not needed to look."""

import importlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError
from tlkit.base.files import missing
from tlkit.options.catalog import BackboneRow, backbone_row, family_of

FALLBACK_FOLDER = Path("/tmp/.keras/models")  # where Keras puts downloads when its home is read-only

# The names under which Keras stores its ImageNet files: a pattern on the catalogue's name, and the file.
FILES = (
    (r"(vgg\d+|resnet\d+(?:v2)?|densenet\d+|xception)", "{0}_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    (r"inceptionv3", "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    (r"inceptionresnetv2", "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    (r"mobilenet", "mobilenet_{tenths}_{side}_tf_no_top.h5"),
    (r"mobilenetv2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{side}_no_top.h5"),
    (r"mobilenetv3(small|large)", "weights_mobilenet_v3_{0}{minimalistic}_224_{alpha}_float_no_top_v2.h5"),
    (r"nasnet(mobile|large)", "nasnet_{0}_no_top.h5"),
    (r"efficientnet(b\d)", "efficientnet{0}_notop.h5"),
    (r"efficientnetv2(\w+)", "efficientnetv2-{0}_notop.h5"),
    (r"convnext(\w+)", "convnext_{0}_notop.h5"),
)
# Square sides that have weights of their own; 224 serves every other size, and is the only one of wider networks.
SIDES = {"mobilenet": (128, 160, 192, 224), "mobilenetv2": (96, 128, 160, 192, 224)}
ALPHAS = {
    "mobilenet": (0.25, 0.5, 0.75, 1.0),
    "mobilenetv2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "mobilenetv3small": (0.75, 1.0),
    "mobilenetv3large": (0.75, 1.0),
}


def is_path(spec: str) -> bool:
    """Whether a backbone is given as a file rather than as a name of the catalogue."""
    return spec.lower().endswith((".keras", ".h5")) or "/" in spec or "\\" in spec


def backbone_file(path: Path) -> Path:
    """The file of a backbone, which is there; raises TlkitError where it is not."""
    if not path.is_file():
        raise missing(str(path), "--backbone takes a name from `tlkit backbones` or a .keras file.")
    return path


def given_weights(path: Path) -> Path:
    """A file of weights, which is there; raises TlkitError where it is not."""
    if not path.is_file():
        raise missing(str(path), "--weights takes imagenet, none, or the path of a weight file.")
    return path


def refuse_missing_network(backbone: str, weights: str) -> None:
    """Raise for a backbone of no known name, and for a file that is not there, before Keras is loaded.

    Raises:
        TlkitError: naming it.
    """
    if is_path(backbone):
        backbone_file(Path(backbone))
    elif not family_of(backbone):
        backbone_row(backbone)
    if weights not in ("imagenet", "none"):
        given_weights(Path(weights))


def imagenet_file(row: BackboneRow, variants: Mapping[str, Any], image_size: tuple[int, int]) -> str:
    """Name of the file of ImageNet weights that Keras would look for.

    Raises:
        TlkitError: when Keras has no ImageNet weights of this variant.
    """
    alpha, minimalistic = variants.get("alpha", 1.0), variants.get("minimalistic", False)
    unpublished = variants.get("depth_multiplier", 1) != 1 or (minimalistic and alpha != 1.0)
    if unpublished or alpha not in ALPHAS.get(row.name, (1.0,)):
        raise TlkitError(
            f"there are no ImageNet weights of {row.name} with {dict(variants)}.",
            f"alpha is one of {', '.join(map(str, ALPHAS[row.name]))} (and the rest as it is by default); "
            "or start from random weights with --weights none.",
        )
    side = side_of_weights(row, variants, image_size)
    tenths = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}.get(alpha)
    for pattern, name in FILES:
        if found := re.fullmatch(pattern, row.name):
            return name.format(
                *found.groups(),
                alpha=float(alpha),
                side=side,
                tenths=tenths,
                minimalistic="_minimalistic" if minimalistic else "",
            )
    raise TlkitError(f"{row.name} has no ImageNet weights.", "start from random weights with --weights none.")


def side_of_weights(row: BackboneRow, variants: Mapping[str, Any], image_size: tuple[int, int]) -> int:
    """The side in pixels whose weights serve images of that size (height, width)."""
    height, width = image_size
    published = height == width and height in SIDES.get(row.name, ()) and variants.get("alpha", 1.0) <= 1.0
    return height if published else 224


def models_folder() -> Path:
    """The folder in which Keras keeps weights: KERAS_HOME as it was when Keras was imported, or as it is now."""
    if "keras" in sys.modules:
        home = importlib.import_module("keras.src.backend.config").keras_home()
    else:
        home = os.environ.get("KERAS_HOME", "~/.keras")
    return Path(home).expanduser() / "models"


def weights_at_hand(row: BackboneRow, variants: Mapping[str, Any], image_size: tuple[int, int]) -> Path | None:
    """The file of ImageNet weights if this machine has it; a read-only folder will do."""
    return at_hand(imagenet_file(row, variants, image_size))


def at_hand(name: str) -> Path | None:
    """A file of weights by its name, in any of the folders that are looked into."""
    return next((folder / name for folder in folders() if (folder / name).is_file()), None)


def folders() -> list[Path]:
    """Where weights are looked for: Keras's folder, and the one that Keras fills where that cannot be written."""
    usual = models_folder()
    existing = next(parent for parent in (usual, *usual.absolute().parents) if parent.exists())
    return [usual] if os.access(existing, os.W_OK) else [usual, FALLBACK_FOLDER]
