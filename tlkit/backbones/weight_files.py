"""Files of ImageNet weights: which one a backbone uses, where it is, and every one that Keras publishes with its checksum. Cold."""

import importlib
import itertools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tlkit.base.errors import TlkitError, unknown_name
from tlkit.base.files import missing
from tlkit.base.remote import RemoteFile
from tlkit.options.catalog import BACKBONES, BackboneRow, backbone_row, family_of

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
# Square sides that have weights of their own; 224 is used for every other size, and is the only one of wider networks.
SIDES = {"mobilenet": (128, 160, 192, 224), "mobilenetv2": (96, 128, 160, 192, 224)}
ALPHAS = {
    "mobilenet": (0.25, 0.5, 0.75, 1.0),
    "mobilenetv2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "mobilenetv3small": (0.75, 1.0),
    "mobilenetv3large": (0.75, 1.0),
}


def is_path(spec: str) -> bool:
    """Whether a backbone is given as a file rather than as a name of the catalogue or of another family."""
    return family_of(spec) is None and _looks_like_a_file(spec)


def _looks_like_a_file(spec: str) -> bool:
    return spec.lower().endswith((".keras", ".h5")) or "/" in spec or "\\" in spec


def backbone_file(path: Path) -> Path:
    """The existing file of a backbone; raises TlkitError where there is none."""
    if not path.is_file():
        raise missing(str(path), "--backbone takes a name from `tlkit backbones` or a .keras file.")
    return path


def given_weights(path: Path) -> Path:
    """The existing file of weights; raises TlkitError where there is none."""
    if not path.is_file():
        raise missing(str(path), "--weights takes imagenet, none, or the path of a weight file.")
    return path


def refuse_missing_network(backbone: str, weights: str) -> None:
    """Raise for an unknown backbone and for a missing file, before Keras is loaded.

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
            f"alpha is one of {', '.join(map(str, ALPHAS[row.name]))} (and the rest at its defaults); "
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
    """The side in pixels whose weights are used for images of that size (height, width)."""
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
    """The file of ImageNet weights if this machine has it, also in a read-only folder."""
    return at_hand(imagenet_file(row, variants, image_size))


def at_hand(name: str) -> Path | None:
    """A file of weights by its name, in any of `folders`."""
    return next((folder / name for folder in folders() if (folder / name).is_file()), None)


def folders() -> list[Path]:
    """Folders searched for weights: Keras's own, and the one that Keras uses where that cannot be written."""
    usual = models_folder()
    existing = next(parent for parent in (usual, *usual.absolute().parents) if parent.exists())
    return [usual] if os.access(existing, os.W_OK) else [usual, FALLBACK_FOLDER]


# -- every file that Keras publishes: for which network, where, and its checksum -------------------
#
# Checksums and addresses are those in the source of `keras.applications` (3.15), which tests/contracts check. Keras
# states no checksum for the files of MobileNet and MobileNetV2, and no sizes: sizes here are 4 bytes per parameter.

MIRROR = "TLKIT_WEIGHTS_URL"
PUBLISHER = "https://storage.googleapis.com/"
# A pattern on the file's name, and the publisher's folder.
FOLDERS = (
    (r"efficientnetb\d_.*", "keras-applications"),
    (r"efficientnetv2-.*", "tensorflow/keras-applications/efficientnet_v2"),
    (r"(vgg\d\d|xception|inception_v3|inception_resnet_v2)_.*", "tensorflow/keras-applications/{0}"),
    (r"(densenet|resnet|convnext|nasnet)\d*(?:v2)?_.*", "tensorflow/keras-applications/{0}"),
    (r"mobilenet_v2_.*", "tensorflow/keras-applications/mobilenet_v2"),
    (r"weights_mobilenet_v3_.*", "tensorflow/keras-applications/mobilenet_v3"),
    (r"mobilenet_\d.*", "tensorflow/keras-applications/mobilenet"),
)
# Files whose name at the publisher differs from that in Keras.
CALLED_THERE = {
    "nasnet_mobile_no_top.h5": "NASNet-mobile-no-top.h5",
    "nasnet_large_no_top.h5": "NASNet-large-no-top.h5",
}
# Backbone with its variant, and the md5 (32 digits) or sha256 (64) of its file.
_SUMS = """
convnexttiny      d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1
convnextsmall     6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab
convnextbase      40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45
convnextlarge     96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd
convnextxlarge    de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05
densenet121       30ee3e1110167f948a6b9946edeeb738
densenet169       b8c4d4c20dd625c148057b9ff1c1176b
densenet201       c13680b51ded0fb44dff2d8f86ac8bb1
efficientnetb0    50bc09e76180e00e4465e1a485ddc09d
efficientnetb1    74c4e6b3e1f6a1eea24c589628592432
efficientnetb2    111f8e2ac8aa800a7a99e3239f7bfb39
efficientnetb3    af6d107764bb5b1abb91932881670226
efficientnetb4    ebc24e6d6c33eaebbd558eafbeedf1ba
efficientnetb5    38879255a25d3c92d5e44e04ae6cec6f
efficientnetb6    9ecce42647a20130c1f39a5d4cb75743
efficientnetb7    cbcfe4450ddf6f3ad90b1b398090fe4a
efficientnetv2b0  893217f2bb855e2983157299931e43ff
efficientnetv2b1  0e80663031ca32d657f9caa404b6ec37
efficientnetv2b2  1dfe2e7a5d45b6632553a8961ea609eb
efficientnetv2b3  f6abf7b5849ac99a89b50dd3fd532856
efficientnetv2s   af0682fb74e8c54910f2d4393339c070
efficientnetv2m   1b8dc055df72dde80d614482840fe342
efficientnetv2l   b0b66b5c863aef5b46e8608fe1711615
inceptionresnetv2 d19885ff4a710c122648d3b5c3b684e4
inceptionv3       bcbd6486424b2319ff4ef7d526e38f63
mobilenetv3large              07fb09a5933dd0c8eaafa16978110389
mobilenetv3large:alpha=0.75   40af19a13ebea4e2ee0c676887f69a2e
mobilenetv3large:minimalistic=True ec5221f64a2f6d1ef965a614bdae7973
mobilenetv3small              d3e8ec802a04aa4fc771ee12a9a9b836
mobilenetv3small:alpha=0.75   ebdb5cc8e0b497cd13a7c275d475c819
mobilenetv3small:minimalistic=True cde8136e733e811080d9fcd8a252f7e4
nasnetlarge       d81d89dc07e6e56530c4e77faddd61b5
nasnetmobile      1ed92395b5b598bdda52abe5c0dbfd63
resnet50          4d473c1dd8becc155b73f8504c6f6626
resnet101         88cf7a10940856eca736dc7b7e228a21
resnet152         ee4c566cf9a93f14d82f913c2dc6dd0c
resnet50v2        fac2f116257151a9d068a22e544a4917
resnet101v2       c0ed64b8031c3730f411d2eb4eea35b5
resnet152v2       ed17cf2e0169df9d443503ef94b23b33
vgg16             6d6bbae143d832006294945121d1f1fc
vgg19             253f8cb515780f3b799900260a226db6
xception          b0042744bf5b25fce3cb969f33bebb97
"""
SUMS = dict(line.split() for line in _SUMS.strip().splitlines())
# sha256 of files without a checksum in Keras, as tlkit has seen them.
SEEN = {
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5": (
        "d43c70f8ea04b1087170401b2f4739f41b94200e30892ea8d050ac65779146c6"
    ),
}
# Exact parameters where Keras states no checksum, and of variants; those of the rest are in the catalogue.
PARAMETERS = {
    **{f"mobilenet:alpha={alpha}": count for alpha, count in ((0.25, 218_544), (0.5, 829_536), (0.75, 1_832_976))},
    "mobilenet": 3_228_864,
    **{f"mobilenetv2:alpha={alpha}": count for alpha, count in ((0.35, 410_208), (0.5, 706_224), (0.75, 1_382_064))},
    "mobilenetv2": 2_257_984,
    **{f"mobilenetv2:alpha={alpha}": count for alpha, count in ((1.3, 3_766_048), (1.4, 4_363_712))},
    **{"mobilenetv3large:alpha=0.75": 1_808_736, "mobilenetv3large:minimalistic=True": 1_437_608},
    **{"mobilenetv3small:alpha=0.75": 583_160, "mobilenetv3small:minimalistic=True": 441_000},
}


class WeightFile(NamedTuple):
    """One file of ImageNet weights.

    Args:
        spec: as users write it: `mobilenetv2:alpha=0.35,size=160`; the size only where it is not the native one.
        row: of the catalogue.
        name: of the file, which is how Keras finds it.
        sums: kind of checksum -> hex, as Keras states it; empty where it states none.
        parameters: how many numbers are in it, rounded to the catalogue's 0.1 million where a checksum identifies it.
    """

    spec: str
    row: BackboneRow
    name: str
    sums: Mapping[str, str]
    parameters: int

    @property
    def known_sums(self) -> Mapping[str, str]:
        """Kind -> hex of the known checksums: those that Keras states, else those that tlkit has seen; may be empty."""
        return self.sums or ({"sha256": SEEN[self.name]} if self.name in SEEN else {})

    @property
    def bytes(self) -> int:
        """Its approximate size."""
        return 4 * self.parameters

    @property
    def url(self) -> str:
        """The address at which Keras publishes it."""
        for pattern, folder in FOLDERS:
            if found := re.fullmatch(pattern, self.name):
                return f"{PUBLISHER}{folder.format(*found.groups())}/{CALLED_THERE.get(self.name, self.name)}"
        raise TlkitError(f"no address of {self.name} is known.", "this is a bug in tlkit; please report it.")

    @property
    def remote(self) -> RemoteFile:
        """Where it can be downloaded: at a mirror if the setting names one, else at the publisher's.

        Raises:
            TlkitError: the setting is not the address of a folder.
        """
        return RemoteFile(
            urls=(f"{base}/{self.name}" if (base := mirror()) else self.url,),
            bytes=0,
            stated_by="keras.applications",
            **self.sums,
        )


def weight_file(row: BackboneRow, variants: Mapping[str, Any], image_size: tuple[int, int]) -> WeightFile:
    """The file for a network of that variant and image size (height, width).

    Raises:
        TlkitError: when Keras has no ImageNet weights of this variant.
    """
    name = imagenet_file(row, variants, image_size)
    named = [f"{key}={value}" for key, value in sorted(variants.items()) if (key, value) in _telling(row)]
    plain = f"{row.name}:{','.join(named)}" if named else row.name
    side = side_of_weights(row, variants, image_size)
    spec = plain if side == 224 or row.name not in SIDES else f"{plain}{',' if named else ':'}size={side}"
    total = SUMS.get(plain, "")
    count = PARAMETERS.get(plain, round(row.parameters * 1e6))
    return WeightFile(spec, row, name, {_kind(total): total} if total else {}, count)


def read_spec(spec: str) -> WeightFile | None:
    """The file behind a name as users write it, `mobilenetv2:alpha=0.35,size=160`; None for `nano`, which needs none.

    Raises:
        TlkitError: unknown name or variant, or one that has no weights.
    """
    row = backbone_row(spec)
    given = dict(part.partition("=")[::2] for part in spec.partition(":")[2].replace(" ", "").split(",") if part)
    side = given.pop("size", str(row.image_size))
    known = {key for key, _ in _telling(row)}
    for key in given:
        if key not in known:
            takes = f"there are weights by {', '.join(sorted(known))} and size." if known else "it has one file."
            raise unknown_name(f"a variant of {row.name} that has weights of its own", key, known | {"size"}, takes)
    values = {key: _number(spec, key, value) for key, value in given.items()}
    if not row.attribute:
        return None
    if not side.isdecimal():
        raise TlkitError(f"size of {spec!r} is {side!r}, expected pixels.", f"write {row.name}:size=160.")
    return weight_file(row, values, (int(side), int(side)))


def every_file() -> Iterator[WeightFile]:
    """All files, grouped by network, its usual one first."""
    for row in BACKBONES.values():
        if not row.attribute:
            continue
        variants: list[dict[str, Any]] = [{}, *({"alpha": alpha} for alpha in ALPHAS.get(row.name, ()) if alpha != 1.0)]
        variants += [{"minimalistic": True}] if row.name.startswith("mobilenetv3") else []
        sides = sorted(SIDES.get(row.name, (row.image_size,)), reverse=True)
        files = (weight_file(row, variant, (side, side)) for variant, side in itertools.product(variants, sides))
        yield from {file.name: file for file in files}.values()


def _telling(row: BackboneRow) -> set[tuple[str, Any]]:
    """The variants, as (name, value), that have a file of their own."""
    found = {("alpha", alpha) for alpha in ALPHAS.get(row.name, ()) if alpha != 1.0}
    return found | ({("minimalistic", True)} if row.name.startswith("mobilenetv3") else set())


def _number(spec: str, key: str, value: str) -> Any:
    if key == "minimalistic" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return float(value)
    except ValueError:
        raise TlkitError(f"{key} of {spec!r} is {value!r}, expected a number.", f"write {key}=0.75.") from None


def _kind(total: str) -> str:
    return "sha256" if len(total) == 64 else "md5"


def mirror() -> str:
    """The address of a folder that holds the same files, from TLKIT_WEIGHTS_URL; "" for the publisher's.

    Raises:
        TlkitError: it is not an http(s) address, or contains a password.
    """
    address = os.environ.get(MIRROR, "").strip().rstrip("/")
    parts = urlsplit(address)
    if address and (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc):
        raise TlkitError(
            f"{MIRROR} is not the http(s) address of a folder without a password.",
            "write https://HOST/FOLDER; for a folder on a disk use `tlkit weights import FOLDER`.",
        )
    return address
