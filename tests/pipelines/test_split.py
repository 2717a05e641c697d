import csv
import shutil

import pytest

from tlkit.base.errors import TlkitError
from tlkit.data.scan import scan
from tlkit.options.commands import SplitConfig
from tlkit.pipelines.split import run


def test_the_written_manifest_is_read_back_with_its_split(colours, tmp_path):
    out = tmp_path / "elsewhere" / "splits.csv"
    out.parent.mkdir()
    result = run(SplitConfig(images=str(colours), out=str(out)))
    with out.open(newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert {name: splits.count(name) for name in ("train", "val", "test")} == result["splits"]
    again = scan(out)
    assert len(again) == 36 and all(again.file(i).is_file() for i in range(36))
    assert (again.given >= 0).all()


def test_a_class_whose_name_a_table_would_take_for_two_is_refused(colours, tmp_path):
    images = shutil.copytree(colours, tmp_path / "images")
    (images / "red").rename(images / "red|dark")
    with pytest.raises(TlkitError, match="which joins several labels"):
        run(SplitConfig(images=str(images), out=str(tmp_path / "splits.csv")))
