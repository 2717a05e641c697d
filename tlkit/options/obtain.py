"""The options of `tlkit sample`."""

import re
from dataclasses import dataclass

from tlkit.base.errors import TlkitError
from tlkit.options import catalog
from tlkit.options.option import Options, argument, option


def _fault(help: str) -> float:
    """A fault of the drawn set, as the fraction of its images that get it."""
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
        "Images to write, evenly over the classes; all 1,797 digits, 400 shapes or sheets unless given.",
        low=10,
        high=1_000_000,
        group="Sample",
    )
    seed: int = option(0, "Seed of shapes and sheets.", low=0, high=2**31 - 1, group="Sample")
    overwrite: bool = option(False, "Replace what is there.", group="Sample")
    corrupt: float = _fault("Fraction of files that no decoder can read: empty, cut short or text.")
    duplicate: float = _fault("Fraction of files that are byte for byte another one.")
    near_duplicate: float = _fault("Fraction of files that are another one, cropped a little and saved again.")
    mislabelled: float = _fault("Fraction of files in the folder of a wrong class.")
    rotated: float = _fault("Fraction of files stored turned, with the EXIF tag that turns them back.")
    imbalance: float = option(
        0.0,
        "How much smaller each class is than the one before: 0 for equal classes, 0.5 for half.",
        low=0,
        high=0.9,
        group="Faults of shapes",
    )

    @property
    def faults(self) -> dict[str, float]:
        """Fault -> fraction of the images."""
        names = ("corrupt", "duplicate", "near_duplicate", "mislabelled", "rotated")
        return {name: getattr(self, name) for name in names}

    def check(self) -> None:
        """Faults and sizes only where something is made to order, and no more faults than images."""
        super().check()
        given = [name for name, value in (self.faults | {"imbalance": self.imbalance}).items() if value]
        if given and self.name != "shapes":
            raise TlkitError(
                f"--{given[0].replace('_', '-')} has no effect on the sample {self.name!r}.",
                "only shapes can be drawn with faults: `tlkit sample shapes DIR`.",
            )
        if self.count is not None and self.name not in catalog.MADE_SAMPLES:
            raise TlkitError(
                f"--count {self.count} has no effect on the sample {self.name!r}: a download comes whole.",
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
    """`tlkit weights`: which pretrained weights are at hand, and getting others here."""

    action: str = argument(
        "list what there is; fetch it over the network; import it from files; export it for another machine.",
        default="list",
        choices=ACTIONS,
    )
    what: tuple[str, ...] | None = argument(
        "For list and fetch, backbones: resnet50, mobilenetv2:alpha=0.35,size=160. For import, files or folders. "
        "For export, the folder to write, then backbones; all that are at hand unless named.",
        default=None,
    )
    verify: bool = option(False, "list: read every file at hand and check its sum.", group="List")

    @property
    def names(self) -> list[str]:
        """`what` as backbones, whose own commas do not part them."""
        whole: list[str] = []
        for part in self.what or ():
            if whole and re.match(r"\s*[a-z_]+\s*=", part):
                whole[-1] += "," + part.strip()
            else:
                whole.append(part.strip())
        return whole

    def check(self) -> None:
        """Every action but `list` needs arguments."""
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
            raise TlkitError(f"--verify has no effect on {self.action}, which checks anyway.", "drop it.")
