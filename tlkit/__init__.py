"""tlkit: a folder of images in; a classifier, a feature table and an honest report out.

    import tlkit

    result = tlkit.finetune("images", backbone="resnet50", out="run")
    result["metrics"]["test"]["accuracy"]["value"]

Every command is a function of the same name: arguments are the command's, flags are keywords with
`_` for `-`, and what comes back is what `--json` prints. (`tlkit backbones` is `tlkit.list_backbones()`,
for `tlkit.backbones` is the package of that name.) Importing this package is cheap: Keras and
its friends load when a function is first called.
"""

import os
from typing import Any

from tlkit.base.machine import __version__ as __version__

__all__ = [
    "audit",
    "cache",
    "compare",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "features",
    "finetune",
    "list_backbones",
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


def __getattr__(name: str) -> Any:
    """The function of a command, made on first use."""
    if name in __all__:
        from tlkit.pipelines import function

        return function(name.removeprefix("list_"))
    raise AttributeError(f"module 'tlkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
