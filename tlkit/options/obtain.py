"""The options of `tlkit sample`, `tlkit weights` and `tlkit rank`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tlkit.base.errors import TlkitError
from tlkit.options import catalog
from tlkit.options.groups import ImageOptions, ShardOptions, SplitOptions, StoreOptions
from tlkit.options.option import Options, argument, option

OWN = ("size", "weights")  # options of a candidate that are not variants of its network


@dataclass(frozen=True)
class Wanted:
    """A requested candidate.

    Args:
        backbone: as for `--backbone`: a catalogue name with its variants, the path of a `.keras` file, or a preset.
        image_size: side in pixels, or None for the native one.
        weights: as for `--weights`.
    """

    backbone: str
    image_size: int | None = None
    weights: str = "imagenet"

    @property
    def name(self) -> str:
        """As a user would type it."""
        own = [f"size={self.image_size}"] if self.image_size else []
        own += [f"weights={self.weights}"] if self.weights != "imagenet" else []
        has_variants = ":" in _cut(self.backbone)[1]
        return self.backbone + (("," if has_variants else ":") + ",".join(own) if own else "")

    @property
    def flags(self) -> list[str]:
        """The flags of `tlkit finetune` that train this candidate."""
        size = ["--image-size", str(self.image_size)] if self.image_size else []
        weights = ["--weights", self.weights] if self.weights != "imagenet" else []
        return ["--backbone", self.backbone, *size, *weights]


def read_candidates(parts: Sequence[str], image_size: int | None = None) -> list[Wanted]:
    """Read candidates from a list split at its commas, in which `mobilenetv2:alpha=0.35`, `size=160` are parts of one.

    Args:
        parts: pieces of `NAME[:OPTION=VALUE,...]`; besides the network's own variants, `size` is the side of the input
            and `weights` is imagenet, none or a file.
        image_size: side of candidates that give none.

    Raises:
        TlkitError: for an unknown name, an invalid size or a repeated candidate.
    """
    whole: list[str] = []
    for part in ",".join(parts).split(","):
        if whole and re.match(r"\s*[A-Za-z_]\w*\s*=", part):
            whole[-1] += ("," if ":" in _cut(whole[-1])[1] else ":") + part.strip()
        elif part.strip():
            whole.append(part.strip())
    found = [_read(text, image_size) for text in whole]
    twice = next((one.name for i, one in enumerate(found) if one in found[:i]), None)
    if twice or not found:
        raise TlkitError(
            f"--backbones gives {twice!r} twice." if twice else "--backbones names no candidate.",
            "name each candidate once: nano,resnet50,mobilenetv2:alpha=0.35,size=160.",
        )
    return found


def _cut(text: str) -> tuple[str, str]:
    """Split a candidate into its name or file and the rest, from the colon on."""
    end = re.search(r"\.keras(?=:|$)", text, re.IGNORECASE)
    at = end.end() if end else text.find(":")
    return (text, "") if at < 0 else (text[:at], text[at:])


def _read(text: str, image_size: int | None) -> Wanted:
    name, tail = text.split(",")[0].strip(), text.partition(",")[2]
    family = catalog.family_of(name)
    if not family:
        name, tail = _cut(text)
    pairs = [piece.strip() for piece in tail.lstrip(":").split(",") if piece.strip()]
    own = {key: value for key, _, value in (pair.partition("=") for pair in pairs) if key in OWN}
    variants = ",".join(pair for pair in pairs if pair.partition("=")[0] not in OWN)
    is_file = name.lower().endswith(".keras")
    if not is_file and not family:
        catalog.backbone_row(name)
    elif variants:
        what = "a preset" if family else "a file"
        raise TlkitError(f"{text!r} gives {what} the variant {variants}.", f"{what} takes size=PIXELS only.")
    size = own.get("size", "")
    if "size" in own and not (size.isdecimal() and 16 <= int(size) <= 4096):
        raise TlkitError(f"size of {text!r} is {size!r}, expected pixels, 16 to 4096.", "write size=160.")
    side = int(size) if size else image_size
    return Wanted(f"{name}:{variants}" if variants else name, side, own.get("weights") or "imagenet")


@dataclass(frozen=True, kw_only=True)
class RankConfig(ImageOptions, SplitOptions, StoreOptions, ShardOptions):
    """`tlkit rank`: which backbone suits the images, before any is trained."""

    images: str = argument("Folder of images, or a CSV/Parquet manifest.", exists=True)
    backbones: tuple[str, ...] | None = option(
        None,
        "Candidates, comma-separated, each as NAME:VARIANT=VALUE,size=PIXELS,weights=none|FILE "
        "(mobilenetv2:alpha=0.35,size=160), a .keras file, or a KerasHub preset (hub:dinov2_small,size=224); "
        "default: nano and all whose weights are on this machine.",
        group="Candidates",
    )
    limit: int = option(
        2000, "Maximum number of images to use, divided over the classes.", low=4, high=1_000_000, group="Candidates"
    )
    prefer: str = option(
        "accuracy",
        "What to recommend: accuracy, the backbone expected to be best after fine-tuning; speed, the fastest whose "
        "features are within the noise of the best.",
        choices=("accuracy", "speed"),
        group="Candidates",
    )
    how_many: bool = option(
        False,
        "Extrapolate the accuracy to two and five times as many images, and name the class that gains most.",
        group="Learning curve",
    )
    out: str = option("rank", "The folder to write: rank.html, rank.json, rank.csv.", group="Output", writes="folder")
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    overwrite: bool = option(False, "Replace existing output.", group="Output")

    def check(self) -> None:
        """Require candidates that are catalogue names, presets or files."""
        super().check()
        if self.backbones is not None:
            read_candidates(self.backbones, self.image_size)


# -- The options of `tlkit sample` ---


def _fault(help: str) -> float:
    """The option for a fault of the drawn set: the fraction of images that have it."""
    return option(0.0, help, low=0, high=0.5, group="Faults of shapes")


@dataclass(frozen=True, kw_only=True)
class SampleConfig(Options):
    """`tlkit sample`: write a sample dataset."""

    name: str = argument(
        f"{', '.join(catalog.MADE_SAMPLES)} (no network), {', '.join(catalog.FETCHED_SAMPLES)} (downloaded), "
        "or a path to a recipe (.toml)."
    )
    out: str = argument("Folder to write.")
    count: int | None = option(
        None,
        "Number of images or clips to write, evenly over the classes; default: all 1,797 digits, 400 shapes or "
        "sheets, 240 clips.",
        low=10,
        high=1_000_000,
        group="Sample",
    )
    seed: int = option(0, "Seed of shapes, sheets and clips.", low=0, high=2**31 - 1, group="Sample")
    overwrite: bool = option(False, "Replace existing output.", group="Sample")
    corrupt: float = _fault("Fraction of files that cannot be decoded: empty, truncated or text.")
    duplicate: float = _fault("Fraction of files that are byte-for-byte copies.")
    near_duplicate: float = _fault("Fraction of files that are slightly cropped, re-encoded copies.")
    mislabelled: float = _fault("Fraction of files in the folder of the wrong class.")
    rotated: float = _fault("Fraction of files stored rotated, with the EXIF tag that undoes it.")
    imbalance: float = option(
        0.0,
        "How much smaller each class is than the one before: 0 for equal classes, 0.5 for half.",
        low=0,
        high=0.9,
        group="Faults of shapes",
    )

    @property
    def faults(self) -> dict[str, float]:
        """Fraction of images by fault."""
        names = ("corrupt", "duplicate", "near_duplicate", "mislabelled", "rotated")
        return {name: getattr(self, name) for name in names}

    def check(self) -> None:
        """Refuse faults and counts for samples that are not generated, and faults that exceed the images."""
        super().check()
        given = [name for name, value in (self.faults | {"imbalance": self.imbalance}).items() if value]
        if given and self.name != "shapes":
            raise TlkitError(
                f"--{given[0].replace('_', '-')} has no effect on the sample {self.name!r}.",
                "only shapes can be drawn with faults: `tlkit sample shapes DIR`.",
            )
        if self.count is not None and self.name not in catalog.MADE_SAMPLES:
            raise TlkitError(
                f"--count {self.count} has no effect on the sample {self.name!r}: a downloaded set is always complete.",
                f"drop --count; it is for {', '.join(catalog.MADE_SAMPLES)}.",
            )
        if sum(self.faults.values()) > 0.9:
            raise TlkitError(
                f"the faults add up to {sum(self.faults.values()):g} of the images.", "keep them at 0.9 or below."
            )


# -- The options of `tlkit weights` ------------------------------------------------------------

ACTIONS = ("list", "fetch", "import", "export")


@dataclass(frozen=True, kw_only=True)
class WeightsConfig(Options):
    """`tlkit weights`: list pretrained weights, and fetch, import or export them."""

    action: str = argument(
        "list weights; fetch them over the network; import them from files; export them for another machine.",
        default="list",
        choices=ACTIONS,
    )
    what: tuple[str, ...] | None = argument(
        "For list and fetch, backbones: resnet50, mobilenetv2:alpha=0.35,size=160. For import, files or folders. "
        "For export, the folder to write, then backbones; default: all that are on this machine.",
        default=None,
    )
    verify: bool = option(False, "With list: read every file on this machine and check its checksum.", group="List")

    @property
    def names(self) -> list[str]:
        """`what` as backbones, joined again where a comma inside one split it."""
        whole: list[str] = []
        for part in self.what or ():
            if whole and re.match(r"\s*[a-z_]+\s*=", part):
                whole[-1] += "," + part.strip()
            else:
                whole.append(part.strip())
        return whole

    def check(self) -> None:
        """Require arguments for every action but `list`."""
        super().check()
        wants = {
            "fetch": ("a backbone", "tlkit weights fetch resnet50"),
            "import": ("a file or folder", "tlkit weights import FILE..."),
            "export": ("a folder to write", "tlkit weights export DIR"),
        }
        if self.action in wants and not self.what:
            thing, example = wants[self.action]
            raise TlkitError(f"`tlkit weights {self.action}` needs {thing}.", f"for example: `{example}`.")
        if self.verify and self.action != "list":
            raise TlkitError(f"--verify has no effect on {self.action}, which always verifies.", "drop it.")
