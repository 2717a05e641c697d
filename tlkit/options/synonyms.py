"""What other tools call options and commands, so that a name from there is met with ours. Cold."""

from collections.abc import Collection, Iterable

from tlkit.base.errors import nearest

COMMANDS = {
    "train": "finetune",
    "fit": "finetune",
    "tune": "finetune",
    "fine-tune": "finetune",
    "retrain": "finetune",
    "resume": "finetune --resume",
    "test": "evaluate",
    "eval": "evaluate",
    "val": "evaluate",
    "validate": "evaluate",
    "score": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "classify": "predict",
    "extract": "features",
    "embed": "features",
    "embeddings": "features",
    "check": "audit",
    "clean": "audit",
    "convert": "export",
    "models": "backbones",
    "list": "backbones",
    "download": "weights fetch",
    "diff": "compare",
    "info": "doctor",
    "version": "--version",
}

# ours -> what it is called elsewhere, without dashes in front
_ELSEWHERE = {
    "learning-rate": ("lr", "lr0", "rate", "max-lr", "base-lr"),
    "weight-decay": ("wd", "decay"),
    "label-smoothing": ("smoothing", "ls"),
    "batch-size": ("bs", "batch", "b"),
    "image-size": ("size", "img-size", "imgsz", "img", "input-size", "resolution", "target-size", "crop-size"),
    "backbone": ("model", "arch", "architecture", "network", "net", "base-model", "model-name", "base"),
    "weights": ("pretrained", "checkpoint", "ckpt"),
    "epochs": ("epoch", "num-epochs", "n-epochs", "max-epochs", "num-train-epochs"),
    "minutes": ("time", "time-limit", "max-time", "budget"),
    "search": ("trials", "n-trials", "num-trials", "tune", "hpo"),
    "patience": ("early-stopping", "early-stop", "early-stopping-patience"),
    "optimizer": ("optim", "opt", "optimiser"),
    "augment": ("augmentation", "aug", "data-augmentation", "transforms"),
    "balance": ("class-weight", "class-weights", "weighted", "oversample"),
    "stages": ("freeze", "frozen", "unfrozen", "train-layers"),
    "blocks": ("unfreeze-layers", "num-layers", "layers"),
    "val": ("val-size", "val-split", "validation", "validation-split", "validation-size"),
    "test": ("test-size", "test-split", "holdout"),
    "group-by": ("group", "groups", "patient", "subject"),
    "validate": ("folds", "cv", "kfold", "k-folds", "cross-validation"),
    "seed": ("random-state", "random-seed", "manual-seed"),
    "out": ("o", "output", "output-dir", "out-dir", "outdir", "save-dir", "save", "project", "dest", "destination"),
    "overwrite": ("force", "f", "exist-ok", "replace", "y"),
    "dry-run": ("n", "plan", "what-if"),
    "precision": ("fp16", "half", "amp", "mixed-precision", "dtype"),
    "pool": ("pooling",),
    "pooling": ("pool",),
    "reduce": ("pca", "n-components", "dim"),
    "top": ("topk", "top-k", "k"),
    "class-name": ("class", "target", "label"),
    "format": ("to", "include", "type"),
    "log": ("tracker", "logger", "wandb", "mlflow", "report-to"),
    "tta": ("augment", "test-time-augmentation"),
    "quiet": ("silent", "s"),
    "help-all": ("help-full", "full-help"),
}
# what is no option here, and what there is instead
_INSTEAD = {
    **dict.fromkeys(
        ("device", "devices", "gpu", "gpus", "cuda", "cpu", "accelerator", "no-cuda"),
        "what there is to compute with is found, and `tlkit doctor` lists it; CUDA_VISIBLE_DEVICES= (empty) in front of "
        "the command keeps it off the GPU.",
    ),
    **dict.fromkeys(
        ("workers", "num-workers", "jobs", "n-jobs", "j", "threads"),
        "all cores that the process may use are used; `taskset -c 0,1` in front of the command gives it fewer.",
    ),
    **dict.fromkeys(
        ("data", "data-dir", "dataset", "data-path", "images", "input", "input-dir", "source", "train-dir"),
        "images are given without a flag, after the name of the command: tlkit {command} IMAGES",
    ),
    **dict.fromkeys(("run", "run-dir"), "the run is given without a flag: tlkit {command} RUN"),
}


def option_meant(typed: str, known: Collection[str], command: str = "") -> str:
    """A sentence about an unknown option: the one that was meant, or what there is instead; "" where nothing is near.

    Args:
        typed: the option as typed, with or without its dashes.
        known: the options there are, without dashes in front.
        command: the command's name, for sentences that show it.
    """
    plain = typed.lstrip("-").replace("_", "-").lower()
    meant = [ours for ours, names in _ELSEWHERE.items() if plain in names and ours in known]
    found = meant[0] if meant else None if plain in _INSTEAD else nearest(plain, known)
    if found:
        return f"did you mean --{found}?"
    return _INSTEAD.get(plain, "").format(command=command)


def command_meant(typed: str, known: Iterable[str]) -> str:
    """The command line that was meant by an unknown command, without `tlkit`; "" where nothing is near."""
    return COMMANDS.get(typed.lower()) or nearest(typed, known) or ""
