"""An evaluation read back from evaluation.json, so that pages and figures can be rewritten without evaluating again."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import read_json
from tlkit.evaluation.results import EvaluationResult, Matrix
from tlkit.tasks.registry import TASKS
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task

EVALUATION_FORMAT = 1


def read_evaluation(path: Path) -> EvaluationResult:
    """What `EvaluationResult.as_json` wrote; null in an array is NaN.

    Raises:
        TlkitError: there is no such file, or it is of another version.
    """
    remedy = f"write it again: tlkit evaluate {path.parent}"
    try:
        content = read_json(path)
        if content.get("format") != EVALUATION_FORMAT:
            found = content.get("format")
            raise TlkitError(f"{path} has format {found!r}, this tlkit reads {EVALUATION_FORMAT}.", remedy)
        return restored(EvaluationResult, content)
    except (FileNotFoundError, NotADirectoryError):
        raise TlkitError(
            f"{str(path)!r} does not exist.", f"finish it (tlkit finetune --resume {path.parent}), or {remedy}"
        ) from None
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise TlkitError(f"{path} is not an evaluation: {type(error).__name__}: {error}.", remedy) from error


def restored(kind: Any, value: Any) -> Any:
    """A value of JSON as the type that a field has: dataclasses, tuples, dictionaries, arrays, tasks, or plain."""
    arguments = [one for one in get_args(kind) if one is not NoneType]
    if value is None and kind is not np.ndarray:
        return SINGLE if kind is Task else None
    if NoneType in get_args(kind):
        return restored(arguments[0], value)
    if kind is Task:
        return TASKS[value]
    if kind is np.ndarray and isinstance(value, dict):
        return _sparse(value)
    if kind is np.ndarray:
        found = np.array(value)
        return found.astype(np.float64) if found.dtype == object else found
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        present = (spec for spec in fields(kind) if spec.name in value)
        make: Any = kind
        return make(**{spec.name: restored(hints[spec.name], value[spec.name]) for spec in present})
    if get_origin(kind) in (dict, Mapping):
        return {name: restored(arguments[1], item) for name, item in value.items()}
    if get_origin(kind) is tuple:
        each = arguments[0] if arguments[-1] is Ellipsis else None
        kinds = [each] * len(value) if each else arguments
        return tuple(restored(one, item) for one, item in zip(kinds, value, strict=True))
    return value


def _sparse(value: dict[str, Any]) -> Matrix:
    """A matrix of `cells`, each row, column and count."""
    from scipy.sparse import csr_array  # answering does without it

    cells = np.array(value["cells"], np.int64).reshape(-1, 3)
    return csr_array((cells[:, 2], (cells[:, 0], cells[:, 1])), shape=(value["classes"],) * 2)
