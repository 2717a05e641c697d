"""The table of commands: to add one, add a row here, its options in `options` and its pipeline in `pipelines`."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tlkit.options.commands import (
    AuditConfig,
    BackbonesConfig,
    CacheConfig,
    CompareConfig,
    DoctorConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    FeaturesConfig,
    FinetuneConfig,
    NextConfig,
    PredictConfig,
    RankConfig,
    ReportConfig,
    ServeConfig,
    SplitConfig,
    VerifyConfig,
    WeightsConfig,
)
from tlkit.options.obtain import SampleConfig
from tlkit.options.option import Options


class Command(NamedTuple):
    """One command.

    Args:
        name: as typed; also the module in `pipelines` with its `run(config, story)`.
        options: the dataclass of its options.
        help: what it does; the first sentence is shown in the list of commands.
        examples: example command lines.
        shown: maps the result of `run` to what goes to stdout without `--json`: a text, or lines with their line ends.
        first: the options that `--help` shows, in this order; `--help-all` shows the others too. Empty for all.
    """

    name: str
    options: type[Options]
    help: str
    examples: tuple[str, ...]
    shown: Callable[[dict[str, Any]], str | Iterable[str]]
    first: tuple[str, ...] = ()


def _out(result: dict[str, Any]) -> str:
    return result.get("report") or result.get("out") or ""


COMMANDS = (
    Command(
        "doctor",
        DoctorConfig,
        "Show versions, devices, caches and extras.",
        ("tlkit doctor",),
        lambda result: result["text"],
    ),
    Command(
        "backbones",
        BackbonesConfig,
        "List every backbone with its size and features.",
        ("tlkit backbones", "tlkit backbones --json"),
        lambda result: result["text"],
    ),
    Command(
        "weights",
        WeightsConfig,
        "List pretrained weights, fetch them, or copy them to a machine without a network.",
        (
            "tlkit weights list",
            "tlkit weights fetch resnet50 mobilenetv2:alpha=0.35,size=160",
            "tlkit weights export stick     # then, on the other machine: tlkit weights import stick",
        ),
        lambda result: result["text"],
    ),
    Command(
        "sample",
        SampleConfig,
        "Write a sample dataset; some need no network.",
        ("tlkit sample digits digits", "tlkit sample shapes shapes --mislabelled 0.05"),
        _out,
    ),
    Command(
        "audit",
        AuditConfig,
        "Check a set of images for faults: duplicates, wrong labels, shortcuts.",
        (
            "tlkit audit images",
            "tlkit audit images --backbone mobilenetv2 --write-fixes fixes.csv",
            "tlkit audit images --strict",
        ),
        _out,
        ("backbone", "out", "overwrite", "write_fixes", "fixes", "strict", "group_by", "on_bad"),
    ),
    Command(
        "split",
        SplitConfig,
        "Split images into training, validation and test.",
        ("tlkit split images --out splits.csv", "tlkit split faces --group-by '(S[0-9]+)_' --out splits.csv"),
        _out,
    ),
    Command(
        "features",
        FeaturesConfig,
        "Turn images into a table of features.",
        (
            "tlkit features images --backbone resnet50 --out features.csv",
            "tlkit features images --backbone vgg16 --reduce pca:64 --out features.parquet",
        ),
        _out,
        ("backbone", "out", "overwrite", "pool", "layer", "reduce", "image_size", "fit", "batch_size"),
    ),
    Command(
        "rank",
        RankConfig,
        "Rank backbones on the images before any is trained.",
        (
            "tlkit rank images",
            "tlkit rank images --backbones nano,resnet50,mobilenetv2:alpha=0.35,size=160",
            "tlkit rank images --how-many",
        ),
        lambda result: result["text"],
        ("backbones", "how_many", "limit", "out", "overwrite", "image_size", "group_by", "seed"),
    ),
    Command(
        "next",
        NextConfig,
        "Choose the images to label next; write a page to label them on.",
        (
            "tlkit next images --classes ants,bees",
            "tlkit next images --labelled labels.csv --count 50",
            "tlkit next images --run run --out round-2",
        ),
        _out,
        ("run", "labelled", "count", "classes", "backbone", "out", "overwrite", "image_size", "seed"),
    ),
    Command(
        "finetune",
        FinetuneConfig,
        "Train a classifier in stages; write a report.",
        (
            "tlkit finetune images --backbone resnet50 --out run",
            "tlkit finetune images --backbone nano --stages head --dry-run",
            "tlkit finetune --resume run",
        ),
        _out,
        (
            *("backbone", "out", "overwrite", "resume", "dry_run", "preset", "minutes", "epochs"),
            *("stages", "learning_rate", "batch_size", "image_size", "val", "test", "group_by", "seed"),
        ),
    ),
    Command(
        "evaluate",
        EvaluateConfig,
        "Evaluate a classifier, on its own or other images.",
        ("tlkit evaluate run", "tlkit evaluate run other-images --out evaluation"),
        _out,
    ),
    Command(
        "report",
        ReportConfig,
        "Draw publication figures of a run, each with its caption.",
        ("tlkit report run --figures pdf", "tlkit report run --figures svg,png --columns 2 --out figures"),
        _out,
    ),
    Command(
        "compare",
        CompareConfig,
        "Test whether one run is better than another.",
        ("tlkit compare run-a run-b", "tlkit compare baseline b c --out comparison.html"),
        lambda result: result["text"],
    ),
    Command(
        "predict",
        PredictConfig,
        "Predict the class and probability of images.",
        ("tlkit predict run photo.jpg holiday/ --top 3", "find . -name '*.jpg' | tlkit predict run - --out all.csv"),
        lambda result: "" if result["out"] or "shard" in result else as_csv(result),
    ),
    Command(
        "explain",
        ExplainConfig,
        "Show the evidence for predictions, and the nearest training images.",
        (
            "tlkit explain run photo.jpg holiday/ --out explained",
            "tlkit explain run photo.jpg --class-name bees --method integrated --neighbours 6",
        ),
        _out,
    ),
    Command(
        "export",
        ExportConfig,
        "Export a classifier to other runtimes, checked against Keras.",
        (
            "tlkit export run --format onnx",
            "tlkit export run --format savedmodel,onnx,litert,litert-int8,openvino --out exported",
        ),
        lambda result: result["text"],
    ),
    Command(
        "verify",
        VerifyConfig,
        "Check that an exported classifier gives the same logits as at export.",
        ("tlkit verify exported/onnx", "tlkit verify exported/litert-int8 --json"),
        lambda result: result["text"],
    ),
    Command(
        "serve",
        ServeConfig,
        "Serve a classifier over HTTP, with a page to try it.",
        ("tlkit serve run", "tlkit serve run --host 0.0.0.0 --port 8080 --token-file token.txt"),
        lambda result: "",
    ),
    Command(
        "cache",
        CacheConfig,
        "Show or clear the store of computed features.",
        ("tlkit cache show", "tlkit cache clear"),
        lambda result: result["text"],
    ),
)


def as_csv(result: dict[str, Any]) -> Iterable[str]:
    """Predictions as lines of CSV."""
    from tlkit.pipelines.predict import as_csv as written

    return written(result["predictions"])
