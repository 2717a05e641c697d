"""The options of `tlkit explain`."""

from dataclasses import dataclass

from tlkit.core import catalog
from tlkit.core.errors import TlkitError
from tlkit.core.options import Options, argument, option

METHODS = ("integrated", "gradcam", "occlusion")


@dataclass(frozen=True, kw_only=True)
class ExplainConfig(Options):
    """`tlkit explain`: where a classifier looks, and which training images it is reminded of."""

    run: str = argument("Run folder, or a model.keras that tlkit wrote.", exists=True)
    paths: tuple[str, ...] = argument("Images, folders, glob patterns, or - for a list on stdin.")
    out: str = option("explained", "The folder of pictures and explain.json to write.", group="Output")
    class_name: str | None = option(
        None, "Explain this class in every image; the one predicted for each unless given.", group="Explanation"
    )
    method: tuple[str, ...] = option(
        ("integrated", "occlusion"),
        "Methods, comma-separated: integrated (gradients on the grid, from its mean), gradcam, "
        "occlusion (covers patches; slower). With two, how far they agree is stated.",
        choices=METHODS,
        group="Explanation",
    )
    neighbours: int = option(
        3,
        "Training images to show that look most alike to the network; 0 for none.",
        low=0,
        high=20,
        group="Explanation",
    )
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    overwrite: bool = option(False, "Replace the explanations that are there.", group="Output")

    def check(self) -> None:
        """At least one method, none twice."""
        super().check()
        if not self.method or len(set(self.method)) < len(self.method):
            raise TlkitError(
                f"--method {','.join(self.method)!r} names {'none' if not self.method else 'one twice'}.",
                f"give one or more of {', '.join(METHODS)}, comma-separated.",
            )
