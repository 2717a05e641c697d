"""The options of `tlkit compare`."""

from dataclasses import dataclass

from tlkit.core.catalog import SPLITS
from tlkit.core.errors import TlkitError
from tlkit.core.options import Options, argument, option

FORMS = (".json", ".html")


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Options):
    """`tlkit compare`: whether one classifier is better than another."""

    runs: tuple[str, ...] = argument(
        "Two or more folders that `tlkit finetune` or `tlkit evaluate` wrote; the others are held against the first."
    )
    split: str | None = option(
        None,
        "Images to compare on; unless given the first of test, images (of no split) and val that all have.",
        choices=(*SPLITS, "images"),
        group="Data",
    )
    out: str | None = option(None, "File to write besides (.json or .html).", group="Output")
    overwrite: bool = option(False, "Replace what is there.", group="Output")

    def check(self) -> None:
        """Two runs at least, and a file of a known kind."""
        super().check()
        if len(self.runs) < 2:
            raise TlkitError("one run has nothing to be compared with.", "give two or more: tlkit compare RUN RUN.")
        if self.out and not self.out.endswith(FORMS):
            raise TlkitError(f"--out {self.out!r} is neither .json nor .html.", "end it in .json or .html.")
