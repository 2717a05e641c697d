"""`--minutes`: time is planned, reported and recorded; a resumed run gets its minutes again."""

import json

from tests.listener import Listener
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run
from tlkit.runs.history import read_history
from tlkit.training import plan as depth


def test_a_run_says_what_it_promised_and_what_it_took(options, tmp_path, monkeypatch):
    monkeypatch.setattr(depth, "EPOCHS", (2, 2))  # planned; twice as many are useful
    given = {name: value for name, value in options.items() if name != "epochs"}
    story, out = Listener(), tmp_path / "run"
    run(FinetuneConfig(**given, minutes=5, audit=False, out=str(out)), story)
    record = json.loads((out / "run.json").read_text())
    assert record["minutes"]["promised"] == 5 and record["minutes"]["taken"] > 0
    assert "minutes: 5 promised" in story.said[-1]
    top = [row for row in read_history(out / "history.csv") if row["stage"] == "top" and row["epoch"]]
    assert len(top) == 4 and top[-1]["learning_rate"] < 1e-3 * top[0]["learning_rate"]  # the schedule has ended
    assert [one["value"] for one in record["plan"]["decisions"] if one["option"] == "minutes"] == ["5"]

    record["state"] = "running"
    del record["checksum"]
    (out / "run.json").write_text(json.dumps(record))
    run(FinetuneConfig(resume=str(out)), story)
    assert "minutes: 5 again, counted from here" in story.said
    assert "minutes: 5 promised" in story.said[-1]
