"""tlkit: a folder of images in; a classifier, a feature table and an honest report out.

    import tlkit

    run = tlkit.finetune("images", backbone="resnet50", out="run")     # later: tlkit.load("run")
    run["metrics"]["test"]["accuracy"]["value"]
    run.predictions; run.figure("confusion"); run.predict(["new.jpg"])

Every command is a function of the same name: arguments are the command's, flags are keywords with
`_` for `-`, and what comes back is what `--json` prints. (`tlkit backbones` is `tlkit.list_backbones()` and
`tlkit report` is `tlkit.draw_report()`, for `tlkit.backbones` and `tlkit.report` are packages.) Estimators of
scikit-learn are in `tlkit.sklearn`. Importing this package is cheap: Keras and its friends load when a function
is first called.
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

# Read by TensorFlow when it is first imported; fewer lines of chatter, all of its errors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Read when these are first imported: ONNX Runtime (from 1.29 on) and MLflow would write an ID of the device and tell their
# makers of its use.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def __getattr__(name: str) -> Any:
    """The function of a command, made on first use."""
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
