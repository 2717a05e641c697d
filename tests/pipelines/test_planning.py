import contextlib

import pytest

from tlkit.base.errors import TlkitError
from tlkit.extraction import executors
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run


def test_what_knows_one_label_alone_is_refused_for_several(colours, tiny_backbone, tmp_path):
    table = tmp_path / "images.csv"
    rows = [f"{path},{path.parent.name}|{path.parent.name}ish" for path in sorted(colours.glob("*/*.png"))]
    table.write_text("\n".join(["path,label", *rows]))
    config = FinetuneConfig(
        images=str(table), backbone=str(tiny_backbone), out=str(tmp_path / "run"), balance="weights"
    )
    with pytest.raises(TlkitError, match="--balance"):
        run(config)


def test_the_plan_names_who_computes(colours, tiny_backbone, tmp_path, monkeypatch):
    class Elsewhere(executors.Here):
        def describe(self, engine):
            return f"ray: 6 workers for {engine}"

    monkeypatch.setitem(executors.EXECUTORS, "ray", lambda address: contextlib.nullcontext(Elsewhere()))
    config = FinetuneConfig(
        images=str(colours), backbone=str(tiny_backbone), out=str(tmp_path / "run"), executor="ray:a:1", dry_run=True
    )
    decisions = {one["option"]: one["value"] for one in run(config)["plan"]["decisions"]}
    assert decisions["executor"] == "ray: 6 workers for tensorflow-frozen"
