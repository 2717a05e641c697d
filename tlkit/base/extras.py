"""The extras: what each brings, whether it is there, and how to get it where tlkit itself came from. Cold."""

import importlib.metadata
import importlib.util
import re
from typing import NamedTuple


class Extra(NamedTuple):
    """One extra of pyproject.toml: its modules, and what they are for."""

    modules: tuple[str, ...]
    purpose: str


EXTRAS = {
    "heic": Extra(("pillow_heif",), "HEIC photographs"),
    "hub": Extra(("keras_hub",), "--backbone hub:PRESET"),
    "jax": Extra(("jax",), "computing without TensorFlow"),
    "search": Extra(("optuna",), "finetune --search"),
    "litert": Extra(("ai_edge_litert",), "running LiteRT without TensorFlow"),
    "openvino": Extra(("openvino",), "export --format openvino"),
    "serve": Extra(("fastapi", "uvicorn", "httptools", "multipart", "prometheus_client"), "tlkit serve"),
    "tensorboard": Extra(("tensorboard",), "looking at logs/"),
    "mlflow": Extra(("mlflow",), "--log mlflow"),
    "wandb": Extra(("wandb",), "--log wandb"),
}


def lacking(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return [module for module in EXTRAS[extra].modules if importlib.util.find_spec(module) is None]


def install(extra: str) -> str:
    """The command that brings an extra.

    tlkit from an index knows its extras by name; from a checkout or a wheel `pip install tlkit[...]` would ask an index that
    has no tlkit, or another, so that the packages themselves are named.
    """
    try:
        distribution = importlib.metadata.distribution("tlkit")
    except importlib.metadata.PackageNotFoundError:  # the folder alone
        return f"pip install '.[{extra}]', in the checkout"
    if distribution.read_text("direct_url.json") is None:
        return f"pip install 'tlkit[{extra}]'"
    marked = re.compile(rf"""(.*?)\s*;.*extra\s*==\s*["']{extra}["']""")
    wanted = [found[1] for line in distribution.requires or () if (found := marked.match(line))]
    return "pip install " + " ".join(f"'{name}'" for name in wanted)
