"""What a command wrote, as plain values: no times, no machine, and no sentences, which may be put better."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PLAN = ("name", "method", "source", "blocks", "cut", "views", "epochs", "learning_rate", "parameters", "mix")
SPOKEN = {"name", "reason", "held_out", "sentence", "remedy", "command", "caption"}


def parse(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def number(text: str) -> str | float:
    """A cell of a table: a number where it has a decimal point or an exponent, else its text."""
    try:
        return float(text) if any(mark in text for mark in ".e") else text
    except ValueError:
        return text


def table(path: Path, *, without: Iterable[str] = ()) -> dict[str, list[str | float]]:
    """A CSV file as columns."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [number(row[name]) for row in rows] for name in rows[0] if name not in without}


def silent(value: Any) -> Any:
    """A JSON value without its sentences."""
    if isinstance(value, dict):
        return {key: silent(item) for key, item in value.items() if key not in SPOKEN}
    return [silent(item) for item in value] if isinstance(value, list) else value


def findings(path: Path) -> list[Any]:
    """What audit.json says was found, in its order."""
    return silent(parse(path)["findings"])


def evaluation(folder: Path) -> dict[str, Any]:
    """The measures and the predictions in a folder that finetune or evaluate wrote."""
    return {
        "metrics": parse(folder / "metrics.json"),
        "predictions": table(folder / "predictions.csv"),
        "per_class": table(folder / "per_class.csv"),
        "files": {file.name: True for file in sorted(folder.iterdir()) if file.suffix},
    }


def plan(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of a plan is no estimate and no sentence."""
    return [{name: stage[name] for name in PLAN} for stage in stages]


def run(folder: Path) -> dict[str, Any]:
    """All that a finetuned run says of itself."""
    record = parse(folder / "run.json")
    facts = {
        "classes": record["classes"],
        "task": record["task"],
        "set_aside": [row["path"] for row in record["set_aside"]],
        "contract": record["contract"],
        "data_sha256": record["data_sha256"],
        "backbone": record["backbone"],
        "parameters": record["parameters"],
        "plan": plan(record["plan"]["stages"]),
        "augment": record["plan"]["augment"],
        "stages": [{name: stage[name] for name in ("epochs", "best_epoch")} for stage in record["stages"]],
        "history": table(folder / "history.csv", without=["seconds"]),
        "splits": table(folder / "splits.csv"),
        "manifest": table(folder / "manifest.csv"),
        "class_indices": parse(folder / "class_indices.json"),
        "labels": (folder / "labels.txt").read_text(encoding="utf-8"),
    }
    if (folder / "audit.json").exists():
        facts["audit"] = findings(folder / "audit.json")
    if (folder / "choice.json").exists():
        choice = parse(folder / "choice.json")
        chosen = next(row for row in choice["candidates"] if row["name"] == choice["chosen"])
        facts["choice"] = silent(choice) | {"chosen": chosen["kind"]}
    return facts | evaluation(folder)
