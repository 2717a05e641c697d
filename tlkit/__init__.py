"""tlkit: a folder of images in; a classifier, a feature table and an honest report out.

    import tlkit

    run = tlkit.finetune("images", backbone="resnet50", out="run")     # later: tlkit.load("run")
    run["metrics"]["test"]["accuracy"]["value"]
    run.predictions; run.figure("confusion"); run.predict(["new.jpg"])

Every command is a function of the same name: it takes the command's arguments, flags are keywords with `_` for `-`,
and it returns what `--json` prints. (`tlkit backbones` is `tlkit.list_backbones()` and `tlkit report` is
`tlkit.draw_report()`, because `tlkit.backbones` and `tlkit.report` are packages.) scikit-learn estimators are in
`tlkit.sklearn`. Importing this package is cheap: Keras is loaded when a function is first called.
"""

import os
from typing import Any

from tlkit.base.machine import __version__ as __version__

__all__ = [
    "audit",
    "cache",
    "compare",
    "doctor",
    "draw_report",
    "evaluate",
    "explain",
    "export",
    "features",
    "finetune",
    "list_backbones",
    "next",
    "predict",
    "rank",
    "sample",
    "serve",
    "split",
    "verify",
    "weights",
]

# read by TensorFlow at import: fewer informational messages, all errors
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Read at import: ONNX Runtime (from 1.29 on) and MLflow would otherwise store a device ID and send usage data to their
# makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def __getattr__(name: str) -> Any:
    """The function of a command, created on first use."""
    if name in __all__:
        from tlkit.python.functions import function

        made = function(name.removeprefix("list_").removeprefix("draw_"))
        made.__name__ = made.__qualname__ = name
        return globals().setdefault(name, made)
    if name == "load":
        from tlkit.python.run import load

        return globals().setdefault(name, load)
    raise AttributeError(f"module 'tlkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "load"})
