"""Classes of unequal size from the command: choices are recorded and reported, impossible ones refused."""

import json
import shutil

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines import finetune


@pytest.fixture
def unequal(colours, tmp_path):
    """12, 8 and 5 images of the colours."""
    folder = tmp_path / "unequal"
    shutil.copytree(colours, folder)
    for place, kept in enumerate((12, 8, 5)):
        for file in sorted(sorted(folder.iterdir())[place].iterdir())[kept:]:
            file.unlink()
    return folder


def asked(unequal, tiny_backbone, tmp_path, **more):
    given = {"images": str(unequal), "backbone": str(tiny_backbone), "out": str(tmp_path / "run"), "audit": False}
    return FinetuneConfig(**given | {"stages": ("head",)} | more)


@pytest.mark.parametrize("balance", ["post-hoc", "gaussian"])
def test_a_way_is_trained_recorded_and_told(balance, unequal, tiny_backbone, tmp_path):
    finetune.run(asked(unequal, tiny_backbone, tmp_path, balance=balance, test=0, val=0.2))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    if balance == "post-hoc":
        assert record["balance"]["balance"] == "post-hoc" and "tau" in record["balance"]["reason"]
        assert "tau" in (tmp_path / "run" / "report.html").read_text()
    else:
        sizes = [(each["real"], each["drawn"]) for each in record["synthesis"]["classes"]]
        assert all(real + drawn == sum(sizes[0]) for real, drawn in sizes) and len(sizes) == record["synthesis"]["of"]
        report = (tmp_path / "run" / "report.html").read_text()
        assert 'id="synthesis"' in report and report.count("<svg", report.index('id="synthesis"')) >= len(sizes)
        assert "## Features drawn for rare classes" in (tmp_path / "run" / "report.md").read_text()
    probabilities = np.genfromtxt(tmp_path / "run" / "predictions.csv", delimiter=",", dtype=str)
    assert len(probabilities) > 20


def test_drawing_features_is_refused_where_stages_see_pixels(unequal, tiny_backbone, tmp_path):
    with pytest.raises(TlkitError, match="--balance gan draws features") as caught:
        finetune.run(
            asked(unequal, tiny_backbone, tmp_path, balance="gan", stages=("head", "top"), val=0, dry_run=True)
        )
    assert "--stages head" in caught.value.hint
    with pytest.raises(TlkitError, match="--balance gan draws features"):
        finetune.run(asked(unequal, tiny_backbone, tmp_path, balance="gan", head="mlp", dry_run=True))
