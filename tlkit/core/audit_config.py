"""The options of `tlkit audit`."""

from dataclasses import dataclass

from tlkit.core.option_groups import BackboneOptions, EngineOptions, ImageOptions, SplitOptions, StoreOptions
from tlkit.core.options import argument, option


@dataclass(frozen=True, kw_only=True)
class AuditConfig(ImageOptions, SplitOptions, BackboneOptions, StoreOptions, EngineOptions):
    """`tlkit audit`: what is wrong with a set of images, before anything is trained on it."""

    images: str = argument("Folder of images, or a CSV/Parquet manifest.", exists=True)
    backbone: str = option(
        "nano",
        "The network whose features images are compared by: nano is at hand everywhere and cheap; with the one you "
        "train, its features are computed once for both, and ImageNet networks see labels better.",
        group="Backbone",
    )
    out: str = option("audit", "The folder to write: audit.html, audit.json, images.csv, grouped.csv.", group="Output")
    write_fixes: str | None = option(
        None, "Write proposed fixes (path,action,label,reason) to this CSV, to be read and corrected.", group="Output"
    )
    strict: bool = option(False, "Exit with 1 when something serious is found.", group="Output")
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    overwrite: bool = option(False, "Replace what is there.", group="Output")
