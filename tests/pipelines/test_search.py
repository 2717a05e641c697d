"""`--search`: trials are counted, kept over a kill, and the best on validation ships."""

import csv
import importlib.util
import json

import pytest

from tests.listener import Listener
from tlkit.base.errors import TlkitError
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines import refuse_early
from tlkit.pipelines.finetune import run
from tlkit.training import search as searching


def test_without_optuna_there_is_one_clear_error_and_no_run_folder(options, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TlkitError, match="--search 2 needs Optuna"):
        refuse_early("finetune", FinetuneConfig(**options, search=2, out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_a_search_that_was_killed_goes_on_and_its_best_trial_ships(options, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    out, begun, real = tmp_path / "run", [], searching.run_stage

    def dying(*arguments, **named):
        begun.append(arguments)
        if len(begun) == 2:
            raise RuntimeError("power cut")
        return real(*arguments, **named)

    monkeypatch.setattr(searching, "run_stage", dying)
    given = options | {"audit": False, "epochs": (2,)}
    with pytest.raises(RuntimeError, match="power cut"):
        run(FinetuneConfig(**given, search=3, out=str(out)))
    story = Listener()
    run(FinetuneConfig(resume=str(out)), story)
    assert len(begun) == 4  # one done, one cut off and done again, one more
    assert sum(line.startswith("  trial ") for line in story.said) == 2

    with (out / "search.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    record = json.loads((out / "run.json").read_text())
    stage = record["plan"]["stages"][1]
    assert len(rows) == 3 and float(rows[0]["learning_rate"]) == pytest.approx(3e-4)  # as planned, first
    complete = [row for row in rows if row["state"] == "complete"]
    best = max(complete, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert stage["learning_rate"] == pytest.approx(float(best["learning_rate"]))
    assert stage["blocks"] == int(best["blocks"])
    assert "flatter" in record["search"]["note"] and record["search"]["note"] in (out / "report.html").read_text()
    assert json.loads((out / "checkpoints" / "top" / "state.json").read_text())["done"]
    assert not list((out / "search").glob("trial-*"))

    record["state"] = "running"
    del record["checksum"]
    (out / "run.json").write_text(json.dumps(record))
    run(FinetuneConfig(resume=str(out)), story)
    assert len(begun) == 4  # what is searched is not searched again
