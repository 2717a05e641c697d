"""The options of every command: one frozen dataclass each, flat, its groups mixed in."""

from dataclasses import dataclass

from tlkit.core import catalog
from tlkit.core.audit_config import AuditConfig as AuditConfig  # every config is found here
from tlkit.core.compare_config import CompareConfig as CompareConfig  # every config is found here
from tlkit.core.errors import TlkitError
from tlkit.core.explain_config import ExplainConfig as ExplainConfig  # every config is found here
from tlkit.core.export_config import ExportConfig as ExportConfig  # every config is found here
from tlkit.core.export_config import VerifyConfig as VerifyConfig  # every config is found here
from tlkit.core.lora_options import LoraOptions
from tlkit.core.option_groups import (
    BackboneOptions,
    EngineOptions,
    FixOptions,
    HeadOptions,
    ImageOptions,
    JudgementOptions,
    LogOptions,
    SplitOptions,
    StoreOptions,
)
from tlkit.core.options import Options, argument, option
from tlkit.core.rank_config import RankConfig as RankConfig  # every config is found here
from tlkit.core.sample_config import SampleConfig as SampleConfig  # every config is found here
from tlkit.core.serve_config import ServeConfig as ServeConfig  # every config is found here
from tlkit.core.tta_options import TtaOptions
from tlkit.core.validation_options import ValidationOptions
from tlkit.core.weights_config import WeightsConfig as WeightsConfig  # every config is found here


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(ImageOptions, SplitOptions, BackboneOptions, StoreOptions, EngineOptions):
    """`tlkit features`: pixels to a feature table."""

    images: str = argument("Folder of images, or a CSV/Parquet manifest.", exists=True)
    out: str = option(
        "features.csv", "The table to write; its suffix (.csv, .parquet, .npz) chooses the format.", group="Output"
    )
    pool: str = option(
        "avg",
        "View of the grid: avg, max, or none (the flattened grid).",
        choices=catalog.FEATURE_POOLS,
        group="Features",
    )
    layer: str | None = option(None, "Features of this layer instead of the backbone's last grid.", group="Features")
    reduce: str | None = option(
        None, "Reduce the features: pca:N keeps N components, fitted on the training split.", group="Features"
    )
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Features")
    overwrite: bool = option(False, "Replace what is there.", group="Output")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(
    ImageOptions,
    SplitOptions,
    BackboneOptions,
    StoreOptions,
    EngineOptions,
    HeadOptions,
    LoraOptions,
    ValidationOptions,
    JudgementOptions,
    LogOptions,
):
    """`tlkit finetune`: a folder of images to a run folder with a classifier and a report."""

    images: str | None = argument(
        "Folder of images (class per folder, or train/val/test with classes inside), or a CSV/Parquet manifest.",
        default=None,
        exists=True,
    )
    resume: str | None = option(
        None, "Go on with the unfinished run in this folder; its options are its own.", group="Output"
    )
    audit: bool = option(
        True, "Look for what is wrong with the images before training; see `tlkit audit`.", group="Data"
    )
    out: str = option("run", "The run folder to write.", group="Output")
    overwrite: bool = option(False, "Replace what is there.", group="Output")
    dry_run: bool = option(False, "Print the plan and stop.", group="Output")

    def check(self) -> None:
        """Either images or a run to resume."""
        super().check()
        if (self.images is None) == (self.resume is None):
            raise TlkitError(
                "give either IMAGES or --resume RUN.",
                "`tlkit finetune images --out run` starts, `tlkit finetune --resume run` goes on.",
            )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(FixOptions, JudgementOptions, TtaOptions, EngineOptions, LogOptions):
    """`tlkit evaluate`: metrics and report of a finished run, on its own or on other images."""

    run: str = argument("Run folder.", exists=True)
    images: str | None = argument(
        "Labelled images to evaluate on; the run's own splits unless given.", default=None, exists=True
    )
    out: str | None = option(
        None,
        "Folder for metrics.json, predictions.csv and report.html; the run folder unless given, with other images or --tta "
        "a folder in it.",
        group="Output",
    )
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    overwrite: bool = option(False, "Replace what is there.", group="Output")

    def check(self) -> None:
        """Fixes are for other images: a run has its own labels."""
        super().check()
        if self.fixes and self.images is None:
            raise TlkitError(
                f"--fixes {self.fixes} has no effect on the images of the run itself.",
                "train again with it, or give the images to evaluate on.",
            )
        if self.tta > 1 and self.target_precision is not None:
            raise TlkitError(
                "--target-precision chooses the threshold of one view, and --tta averages several.",
                "leave one of them out; a threshold that the run has is chosen again for --tta.",
            )


@dataclass(frozen=True, kw_only=True)
class PredictConfig(TtaOptions, EngineOptions):
    """`tlkit predict`: class and probability of images."""

    run: str = argument("Run folder, or a model.keras that tlkit wrote.", exists=True)
    paths: tuple[str, ...] = argument("Images, folders, glob patterns, or - for a list on stdin.")
    out: str | None = option(None, "File to write (.csv or .json); stdout as CSV unless given.", group="Output")
    top: int = option(1, "How many classes to list for each image.", low=1, group="Output")
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    overwrite: bool = option(False, "Replace what is there.", group="Output")


@dataclass(frozen=True, kw_only=True)
class SplitConfig(ImageOptions, SplitOptions):
    """`tlkit split`: write who trains, validates and tests."""

    images: str = argument("Folder of images, or a CSV/Parquet manifest.", exists=True)
    out: str = option("splits.csv", "The manifest with splits to write (.csv).", group="Output")
    overwrite: bool = option(False, "Replace what is there.", group="Output")


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(Options):
    """`tlkit doctor`: has no options of its own."""


@dataclass(frozen=True, kw_only=True)
class BackbonesConfig(Options):
    """`tlkit backbones`: has no options of its own."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Options):
    """`tlkit cache`: look at the store of computed features, or clear it, all or in part."""

    action: str = argument("What to do: show, or clear.", default="show", choices=("show", "clear"))
    older_than: float | None = option(
        None, "Clear only what nobody has used for this many days.", low=0, group="What to clear"
    )
    keep: str | None = option(
        None, "Clear what was used least recently until the store holds this much: 20GB, 500MB.", group="What to clear"
    )

    def check(self) -> None:
        """What to clear has a meaning only for `clear`."""
        super().check()
        for name in ("older_than", "keep"):
            if self.action != "clear" and getattr(self, name) is not None:
                flag = "--" + name.replace("_", "-")
                raise TlkitError(f"{flag} says what to clear, and `tlkit cache show` clears nothing.", "say clear.")
