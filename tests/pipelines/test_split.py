import csv

from tlkit.core.config import SplitConfig
from tlkit.data.scan import scan
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
