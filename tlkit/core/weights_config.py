"""The options of `tlkit weights`."""

import re
from dataclasses import dataclass

from tlkit.core.errors import TlkitError
from tlkit.core.options import Options, argument, option

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
        """Everything but `list` needs to be told what."""
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
