"""`--balance auto` from the command's function to the record, the report and a resumed run."""

import json
import shutil

import pytest

from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run
from tlkit.training import balance as balancing


@pytest.fixture(scope="module")
def unequal(colours, tmp_path_factory):
    """The colours with 12, 12 and 6 images."""
    root = tmp_path_factory.mktemp("unequal") / "colours"
    shutil.copytree(colours, root)
    for number in range(6, 12):
        (root / "red" / f"{number:02d}.png").unlink()
    return root


def test_auto_is_settled_once_told_and_kept(unequal, options, tmp_path, monkeypatch):
    out = tmp_path / "run"
    given = options | {"images": str(unequal), "stages": ("head",), "balance": "auto"}
    monkeypatch.setattr(
        balancing, "choose", lambda *_, **__: balancing.BalanceChoice("weights", "by 0.1", {"none": 0.5})
    )
    run(FinetuneConfig(**given, out=str(out)))
    record = json.loads((out / "run.json").read_text())
    told = {"balance": "weights", "reason": "by 0.1", "macro_f1": {"none": 0.5}}
    assert record["balance"] == told | {"balanced_accuracy": {}, "tau": 1.0}
    assert "balance weights: by 0.1" in (out / "report.html").read_text()

    monkeypatch.setattr(balancing, "choose", None)  # a settled choice is not measured again
    (out / "run.json").write_text(json.dumps(record | {"state": "running", "checksum": None}))
    shutil.rmtree(out / "checkpoints")
    run(FinetuneConfig(resume=str(out)))
    assert json.loads((out / "run.json").read_text())["balance"] == record["balance"]


@pytest.mark.parametrize("balance", ["sample", "logit-adjust", "post-hoc"])
def test_every_way_trains_by_gradient(unequal, options, tmp_path, balance):
    given = options | {"images": str(unequal), "stages": ("head", "top"), "blocks": 1, "epochs": (1,)}
    result = run(
        FinetuneConfig(**given, balance=balance, head="mlp", hidden=(4,), audit=False, out=str(tmp_path / "run"))
    )
    assert result["metrics"]["test"]["macro_f1"]["value"] is not None
