"""The options of every command: one flat frozen dataclass each, with shared groups mixed in."""

from dataclasses import dataclass
from pathlib import Path

from tlkit.base.errors import TlkitError
from tlkit.options import catalog
from tlkit.options.catalog import SPLITS
from tlkit.options.groups import (
    AnsweringOptions,
    BackboneOptions,
    ClipOptions,
    EngineOptions,
    ExecutorOptions,
    FixOptions,
    FrameOptions,
    HeadOptions,
    ImageOptions,
    JudgementOptions,
    LogOptions,
    MovedOptions,
    ShardOptions,
    SplitOptions,
    StoreOptions,
    TtaOptions,
    ValidationOptions,
)
from tlkit.options.obtain import RankConfig as RankConfig  # every config is found here
from tlkit.options.obtain import SampleConfig as SampleConfig  # every config is found here
from tlkit.options.obtain import WeightsConfig as WeightsConfig  # every config is found here
from tlkit.options.option import Options, argument, option
from tlkit.options.training import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(ImageOptions, SplitOptions, BackboneOptions, StoreOptions, ShardOptions):
    """`tlkit features`: a feature table from images."""

    images: str = argument("Folder of images, or a CSV/Parquet manifest.", exists=True)
    out: str = option(
        "features.csv",
        "The table to write; its suffix (.csv, .parquet, .npz) chooses the format.",
        group="Output",
        writes=tuple(f".{name}" for name in catalog.FEATURE_FORMATS),
    )
    pool: str = option(
        "avg",
        "View of the grid: avg, max, none (the flattened grid); cls and cls+avg read the class token of a vision "
        "transformer.",
        choices=catalog.FEATURE_POOLS,
        group="Features",
    )
    layer: str | None = option(
        None, "Take the features from this layer instead of the backbone's last grid.", group="Features"
    )
    reduce: str | None = option(
        None,
        "Reduce the features: pca:N keeps N components, ae:N and vae:N the codes of an autoencoder, all fitted on "
        "the training split; or FILE.reduce.npz to reuse the reduction of another table.",
        group="Features",
    )
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Features")
    overwrite: bool = option(False, "Replace existing output.", group="Output")

    def check(self) -> None:
        """A class token exists only at the last layer."""
        super().check()
        if self.layer is not None and self.pool in catalog.CLASS_POOLINGS:
            raise TlkitError(
                f"--pool {self.pool} reads the class token, and --layer {self.layer} asks for another layer.",
                "give only one of the two.",
            )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(
    ImageOptions,
    ClipOptions,
    SplitOptions,
    BackboneOptions,
    StoreOptions,
    ExecutorOptions,
    EngineOptions,
    HeadOptions,
    TrainingOptions,
    ValidationOptions,
    JudgementOptions,
    LogOptions,
    MovedOptions,
):
    """`tlkit finetune`: a run folder with a classifier and a report from a folder of images."""

    images: str | None = argument(
        "Folder of images (one folder per class, or train/val/test folders with classes inside), or a CSV/Parquet "
        "manifest.",
        default=None,
        exists=True,
    )
    resume: str | None = option(
        None, "Resume the unfinished run in this folder, with the options it was started with.", group="Output"
    )
    audit: bool = option(True, "Check the images for faults before training; see `tlkit audit`.", group="Data")
    out: str = option("run", "The run folder to write.", group="Output", writes="folder")
    overwrite: bool = option(False, "Replace existing output.", group="Output")
    dry_run: bool = option(False, "Print the plan and stop.", group="Output")

    def check(self) -> None:
        """Require either images or a run to resume."""
        super().check()
        if (self.images is None) == (self.resume is None):
            raise TlkitError(
                "give either IMAGES or --resume RUN.",
                "`tlkit finetune images --out run` starts a run, `tlkit finetune --resume run` resumes it.",
            )
        if self.moved_to is not None and self.resume is None:
            raise TlkitError(
                f"--images {self.moved_to} says where the images of a run are now.",
                f"to train on them: tlkit finetune {self.moved_to}",
            )
        if self.samples_are_clips or not Path(self.images or "").suffix:  # a table may hold clips
            self.refuse_idle(self.over_time if self.samples_are_clips else None)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(FixOptions, JudgementOptions, TtaOptions, EngineOptions, LogOptions, MovedOptions):
    """`tlkit evaluate`: metrics and report of a finished run, on its own or other images."""

    run: str = argument("Run folder.", exists=True)
    images: str | None = argument(
        "Labelled images to evaluate on; default: the run's own splits.", default=None, exists=True
    )
    out: str | None = option(
        None,
        "Folder for metrics.json, predictions.csv and report.html; default: the run folder, or a folder in it with "
        "other images or --tta.",
        group="Output",
        writes="folder",
    )
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    overwrite: bool = option(False, "Replace existing output.", group="Output")

    def check(self) -> None:
        """Refuse fixes for the run's own images, whose labels are part of the run."""
        super().check()
        if self.fixes and self.images is None:
            raise TlkitError(
                f"--fixes {self.fixes} has no effect on the images of the run itself.",
                "train again with --fixes, or give the images to evaluate on.",
            )
        if self.moved_to is not None and self.images is not None:
            raise TlkitError(
                f"--images {self.moved_to} says where the run's own images are, but {self.images} are other images.",
                "leave one of them out.",
            )
        if self.tta > 1 and self.target_precision is not None:
            raise TlkitError(
                "--target-precision chooses the threshold of one view, and --tta averages several.",
                "leave one of them out; a threshold that the run already has is chosen again for --tta.",
            )


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Options):
    """`tlkit report`: publication figures of a run."""

    run: str = argument("Run folder, or a folder that `tlkit evaluate` wrote.", exists=True)
    figures: tuple[str, ...] = option(
        ("pdf",),
        "What to write, comma-separated: pdf, svg, png (300 dpi).",
        choices=("pdf", "svg", "png"),
        group="Output",
    )
    columns: int = option(
        1,
        "Columns of a journal page that a figure spans: 1 is 89 mm wide, 2 is 183 mm.",
        low=1,
        high=2,
        group="Output",
    )
    out: str | None = option(
        None, "The folder to write; default: `figures` in the run.", group="Output", writes="folder"
    )
    overwrite: bool = option(False, "Replace existing figures.", group="Output")


@dataclass(frozen=True, kw_only=True)
class PredictConfig(TtaOptions, AnsweringOptions, ShardOptions):
    """`tlkit predict`: predicted class and probability of images."""

    run: str = argument("Run folder, or a model.keras that tlkit wrote.", exists=True)
    paths: tuple[str, ...] = argument(
        "Images (for a run on clips: films or folders of frames), folders, glob patterns, or - for a list on stdin."
    )
    out: str | None = option(
        None, "File to write (.csv or .json); default: CSV on stdout.", group="Output", writes=(".csv", ".json")
    )
    top: int = option(1, "Number of classes to list for each image.", low=1, group="Output")
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    overwrite: bool = option(False, "Replace existing output.", group="Output")

    def check(self) -> None:
        """Refuse shards with a list on stdin, which can be read once only, or in another precision than float32."""
        super().check()
        if self.shard is not None and self.precision != "float32":
            raise TlkitError(
                f"--shard {self.shard} with --precision {self.precision}: predictions are stored in float32 only.",
                "drop one of the two.",
            )
        if self.shard is not None and "-" in self.paths:
            raise TlkitError(
                f"--shard {self.shard} with a list on stdin: the command that gathers the shards could not read it "
                "again.",
                "give folders, patterns or files.",
            )


@dataclass(frozen=True, kw_only=True)
class SplitConfig(ImageOptions, FrameOptions, SplitOptions):
    """`tlkit split`: assign every image to a split."""

    images: str = argument("Folder of images, or a CSV/Parquet manifest.", exists=True)
    out: str = option(
        "splits.csv", "The manifest to write, with a split column (.csv).", group="Output", writes=(".csv",)
    )
    overwrite: bool = option(False, "Replace existing output.", group="Output")


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(Options):
    """`tlkit doctor`: has no options of its own."""


@dataclass(frozen=True, kw_only=True)
class BackbonesConfig(Options):
    """`tlkit backbones`: has no options of its own."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Options):
    """`tlkit cache`: show the store of computed features, or clear all or part of it."""

    action: str = argument("What to do: show, or clear.", default="show", choices=("show", "clear"))
    older_than: float | None = option(
        None, "Clear only what has not been used for this many days.", low=0, group="What to clear"
    )
    keep: str | None = option(
        None,
        "Clear the least recently used until the store holds no more than this: 20GB, 500MB.",
        group="What to clear",
    )

    def check(self) -> None:
        """Refuse options of `clear` with `show`."""
        super().check()
        for name in ("older_than", "keep"):
            if self.action != "clear" and getattr(self, name) is not None:
                flag = "--" + name.replace("_", "-")
                raise TlkitError(f"{flag} says what to clear, and `tlkit cache show` clears nothing.", "say clear.")


# -- The options of `tlkit audit` --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AuditConfig(ImageOptions, SplitOptions, BackboneOptions, StoreOptions, ShardOptions):
    """`tlkit audit`: faults in a set of images, found before anything is trained on it."""

    images: str = argument("Folder of images, or a CSV/Parquet manifest.", exists=True)
    backbone: str = option(
        "nano",
        "The network whose features are used to compare images: nano is always available and fast; the backbone to "
        "be trained shares its features with training, and ImageNet networks find wrong labels better.",
        group="Backbone",
    )
    out: str = option(
        "audit",
        "The folder to write: audit.html, audit.json, images.csv, grouped.csv.",
        group="Output",
        writes="folder",
    )
    write_fixes: str | None = option(
        None,
        "Write proposed fixes (path,action,label,reason) to this CSV, for review and correction.",
        group="Output",
        writes="file",
    )
    strict: bool = option(False, "Exit with status 1 if something serious is found.", group="Output")
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    overwrite: bool = option(False, "Replace existing output.", group="Output")


# -- The options of `tlkit next` ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NextConfig(ImageOptions, BackboneOptions, StoreOptions, EngineOptions):
    """`tlkit next`: which images to label next."""

    images: str = argument(
        "Images to choose from: a folder, whose images count as unlabelled, or a table, whose rows may have a label.",
        exists=True,
    )
    run: str | None = option(
        None,
        "A finished run, which provides the network for the features, the classifier for guesses and labelled "
        "training images.",
        group="Data",
    )
    labelled: str | None = option(
        None, "Labelled images: class folders, or a table such as the page saves.", group="Data"
    )
    count: int = option(50, "Number of images to choose.", low=1, high=1000, group="Data")
    out: str = option("next", "The folder to write: next.csv and next.html.", group="Output", writes="folder")
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    seed: int = option(0, "Seed of all randomness.", low=0, high=2**31 - 1, group="Data")
    overwrite: bool = option(False, "Replace existing output.", group="Output")


# -- The options of `tlkit compare` ------------------------------------------------------------

FORMS = (".json", ".html")


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Options):
    """`tlkit compare`: whether one classifier is better than another."""

    runs: tuple[str, ...] = argument(
        "Two or more folders that `tlkit finetune` or `tlkit evaluate` wrote; each is compared with the first.",
        exists=True,
    )
    split: str | None = option(
        None,
        "Images to compare on; default: the first of test, images (without a split) and val that all runs have.",
        choices=(*SPLITS, "images"),
        group="Data",
    )
    out: str | None = option(None, "File to write as well (.json or .html).", group="Output", writes=FORMS)
    overwrite: bool = option(False, "Replace existing output.", group="Output")

    def check(self) -> None:
        """Require at least two runs."""
        super().check()
        if len(self.runs) < 2:
            raise TlkitError(
                "a comparison takes two runs, and one is given.", "give two or more: tlkit compare RUN RUN."
            )


# -- The options of `tlkit explain` ------------------------------------------------------------

METHODS = ("integrated", "gradcam", "occlusion", "rollout")


@dataclass(frozen=True, kw_only=True)
class ExplainConfig(Options):
    """`tlkit explain`: the evidence for a prediction, and the nearest training images."""

    run: str = argument("Run folder, or a model.keras that tlkit wrote.", exists=True)
    paths: tuple[str, ...] = argument("Images, folders, glob patterns, or - for a list on stdin.")
    out: str = option(
        "explained", "The folder to write, with pictures and explain.json.", group="Output", writes="folder"
    )
    class_name: str | None = option(
        None, "Explain this class in every image; default: the predicted class of each.", group="Explanation"
    )
    method: tuple[str, ...] = option(
        ("integrated", "occlusion"),
        "Methods, comma-separated: integrated (gradients on the grid, from its mean), gradcam, "
        "occlusion (covers patches; slower), rollout (attention of a vision transformer, not specific to a class). "
        "With two, their agreement is reported.",
        choices=METHODS,
        group="Explanation",
    )
    neighbours: int = option(
        3,
        "Number of nearest training images to show, by the network's features; 0 for none.",
        low=0,
        high=20,
        group="Explanation",
    )
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    overwrite: bool = option(False, "Replace existing explanations.", group="Output")


# -- The options of `tlkit export` and `tlkit verify` ------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Options):
    """`tlkit export`: write a classifier to folders that other runtimes run without tlkit."""

    run: str = argument("Run folder, or a model.keras that tlkit wrote.", exists=True)
    format: tuple[str, ...] = option(
        ("keras",),
        "What to write, comma-separated; each gets a folder of its name in --out.",
        choices=catalog.FORMATS,
        group="Export",
    )
    out: str = option("exported", "The folder to write into.", group="Output", writes="folder")
    check_images: int = option(
        200,
        "Number of images of the run's test (else validation) split on which decisions and accuracy are compared; 0 "
        "for none.",
        low=0,
        high=100_000,
        group="Export",
    )
    calibration_images: int = option(
        200,
        "Number of the run's training images used to calibrate litert-int8; not used for a vision transformer.",
        low=10,
        high=10_000,
        group="Export",
    )
    min_agreement: float = option(
        0.9,
        "Refuse litert-int8 if the predicted class is unchanged on less than this fraction of the check images.",
        low=0,
        high=1,
        group="Export",
    )
    overwrite: bool = option(False, "Replace existing artifacts.", group="Output")

    def check(self) -> None:
        """Require check images for a quantised format."""
        super().check()
        if not (self.check_images or all(catalog.FORMATS[name].exact for name in self.format)):
            raise TlkitError(
                "--check-images 0 leaves no images to measure the cost of quantisation on.",
                "give a number above 0, or export without litert-int8.",
            )


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(Options):
    """`tlkit verify`: whether an artifact still gives the logits it gave at export."""

    artifact: str = argument("Folder that `tlkit export` wrote, with contract.json in it.", exists=True)


# -- The options of `tlkit serve` --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ServeConfig(AnsweringOptions):
    """`tlkit serve`: a page and an HTTP API for one classifier."""

    run: str = argument("Run folder, or a model.keras that tlkit wrote.", exists=True)
    host: str = option(
        "127.0.0.1", "Address to listen on; 127.0.0.1 is this machine only, 0.0.0.0 every interface.", group="Server"
    )
    port: int = option(8000, "Port to listen on; 0 picks a free one and prints it.", low=0, high=65535, group="Server")
    token_file: str | None = option(
        None,
        "File with the bearer token that requests must carry; default: the token in TLKIT_SERVE_TOKEN.",
        group="Server",
    )
    neighbours: int = option(
        3, "Number of nearest training images shown with an explanation; 0 for none.", low=0, high=12, group="Server"
    )
    batch_size: int = option(32, "Maximum images in one inference step.", low=1, high=4096, group="Inference")
    batch_wait: float = option(
        2.0,
        "Milliseconds that a batch waits for images being decoded; if there are none it starts at once.",
        low=0,
        high=1000,
        group="Inference",
    )
    max_image_mb: float = option(20.0, "Maximum size of one image file, in MB.", low=0.001, high=1000, group="Limits")
    max_request_mb: float = option(64.0, "Maximum body of one request, in MB.", low=0.001, high=4000, group="Limits")
    max_images: int = option(32, "Maximum images in one request.", low=1, high=4096, group="Limits")
    max_megapixels: float = option(
        50.0,
        "Maximum pixels of one image, in millions.",
        low=0.01,
        high=178,
        group="Limits",
    )
    max_requests: int = option(64, "Maximum prediction requests at the same time.", low=1, high=4096, group="Limits")
    timeout: float = option(
        30.0, "Seconds that a request may take, from its first byte to its answer.", low=0.1, high=3600, group="Limits"
    )
