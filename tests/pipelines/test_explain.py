import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.listener import Listener
from tlkit.base.errors import TlkitError
from tlkit.options.commands import ExplainConfig
from tlkit.pipelines import explain
from tlkit.pipelines.explain import run


@pytest.fixture(scope="module")
def explained(finished, colours, tmp_path_factory):
    """Two images and one that is none, explained by both methods."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "note.jpg").write_text("no image")
    paths = (str(colours / "red" / "03.png"), str(folder / "note.jpg"), str(colours / "blue" / "04.png"))
    story = Listener()
    return run(ExplainConfig(run=str(finished[0]), paths=paths, out=str(folder / "out")), story), story.said


def test_a_picture_and_a_row_for_every_image(explained):
    result, said = explained
    out = json.loads(Path(result["out"], "explain.json").read_text())
    assert out["explained"] == result["explained"] and result["images"] == 2
    for row, name in zip(result["explained"], ("red", "blue"), strict=True):
        assert row["class"] == row["predicted"] and -1 <= row["agreement"] <= 1
        assert row["picture"].endswith(f"-{row['class']}-{100 * row['probability']:.0f}.png")
        with Image.open(f"{result['out']}/{row['picture']}") as picture:
            assert picture.format == "PNG" and picture.width > 3 * 280
        assert len(row["neighbours"]) == 3
        cosines = [neighbour["cosine"] for neighbour in row["neighbours"]]
        assert cosines == sorted(cosines, reverse=True) and cosines[0] > 0.5
        assert name in row["path"]
    assert [problem["path"].endswith("note.jpg") for problem in result["set_aside"]] == [True]
    assert any("set aside" in line for line in said) and "2 pictures" in said[-1]


def test_one_class_in_every_image_and_one_method(finished, colours, tmp_path):
    config = {"run": str(finished[0] / "model.keras"), "paths": (str(colours / "red"),), "out": str(tmp_path / "out")}
    story = Listener()
    result = run(ExplainConfig(**config, class_name="green", method=("integrated",)), story)
    assert result["images"] == 12
    assert {(row["class"], row["agreement"]) for row in result["explained"]} == {("green", None)}
    assert any(row["predicted"] != "green" for row in result["explained"])
    assert all(row["neighbours"] == [] for row in result["explained"]) and "no neighbours" in story.said[0]
    with pytest.raises(TlkitError, match="already exists"):
        run(ExplainConfig(**config))
    (tmp_path / "out" / "notes.txt").touch()
    config["paths"] = (str(colours / "blue"),)
    again = run(ExplainConfig(**config, method=("gradcam",), overwrite=True))
    written = {row["picture"] for row in again["explained"]} | {"explain.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written | {"notes.txt"}
    (tmp_path / "out" / "explain.json").write_text("{}")
    with pytest.raises(TlkitError, match=r"explain\.json' is damaged"):
        run(ExplainConfig(**config, overwrite=True))


def test_what_is_wrong_is_named(finished, colours, tmp_path):
    config = {"run": str(finished[0]), "paths": (str(colours / "red" / "03.png"),)}
    with pytest.raises(TlkitError, match="'gren' is not a class") as error:
        run(ExplainConfig(**config, out=str(tmp_path / "out"), class_name="gren"))
    assert "did you mean 'green'" in error.value.hint
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(TlkitError, match="holds no explanations"):
        run(ExplainConfig(**config, out=str(tmp_path / "mine"), overwrite=True))
    assert (tmp_path / "mine" / "thesis.tex").exists()
    with pytest.raises(TlkitError, match="not a run folder"):
        run(ExplainConfig(run=str(tmp_path), paths=config["paths"], out=str(tmp_path / "out")))
    with pytest.raises(TlkitError, match="--method names 'occlusion' twice"):
        ExplainConfig(**config, method=("occlusion", "occlusion"))
    assert not (tmp_path / "out").exists()


def test_a_method_that_does_not_suit_is_refused_before_training_images_are_looked_at(
    finished, colours, tmp_path, monkeypatch
):
    monkeypatch.setattr(explain, "training_images", None)
    config = ExplainConfig(run=str(finished[0]), paths=(str(colours),), method=("rollout",), out=str(tmp_path / "out"))
    with pytest.raises(TlkitError, match="attention rollout needs"):
        run(config)
    assert not (tmp_path / "out").exists()


def test_hostile_names_stay_in_the_folder(finished, tmp_path):
    name = "a..%2f<script>alert(1)</script>\n ü.png"
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((20, 30, 3), 120, np.uint8)).save(tmp_path / "images" / name.replace("/", "_"))
    story = Listener()
    config = ExplainConfig(run=str(finished[0]), paths=(str(tmp_path / "images"),), out=str(tmp_path / "out"))
    result = run(config, story)
    (row,) = result["explained"]
    assert "out: 1 picture and " in story.said[-1]
    assert (tmp_path / "out" / row["picture"]).is_file()
    assert not set("<>/\n%") & set(row["picture"])
