import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory
from tlkit.cli.main import app
from tlkit.options.commands import FeaturesConfig, RankConfig
from tlkit.options.obtain import read_candidates
from tlkit.pipelines import features
from tlkit.pipelines.rank import run
from tlkit.ranking import ranking as candidates

cli = CliRunner()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for this module, so that each image is computed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLKIT_CACHE", str(tmp_path_factory.mktemp("store")))
        empty = tmp_path_factory.mktemp("weights")
        patch.setattr("tlkit.backbones.weight_files.models_folder", lambda: empty)
        yield


@pytest.fixture(scope="module")
def ranked(store, colours, tiny_backbone, tmp_path_factory):
    """What the command printed and wrote, from the shell."""
    out = tmp_path_factory.mktemp("ranked") / "rank"
    names = f"nano:size=32,{tiny_backbone},{tiny_backbone}:weights=none,mobilenetv2:alpha=0.35"
    arguments = ["rank", str(colours), "--backbones", names, "--how-many", "--out", str(out), "--json"]
    done = cli.invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    return out, json.loads(done.stdout), done.stderr


def test_candidates_are_ranked_with_intervals_costs_and_a_recommendation(ranked, tiny_backbone):
    _, result, _ = ranked
    found = {one["name"]: one for one in result["candidates"]}
    assert set(found) == {"nano:size=32", str(tiny_backbone), f"{tiny_backbone}:weights=none"}
    for one in found.values():
        accuracy = one["accuracy"]
        assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
        assert one["milliseconds"] > 0 and one["parameters"] > 0 and one["computed"] == result["images"]
    values = [one["accuracy"]["value"] for one in result["candidates"]]
    assert values == sorted(values, reverse=True) and result["best"] == result["candidates"][0]["name"]
    expected = {name: one["predicted"] for name, one in found.items()}
    assert all(one["low"] < one["value"] < one["high"] for one in expected.values())
    assert expected[result["recommended"]]["value"] == max(one["value"] for one in expected.values())
    assert found[result["recommended"]]["flags"] in result["command"] and result["reason"]


def test_a_candidate_without_weights_is_skipped_with_the_remedy(ranked):
    (one,) = ranked[1]["skipped"]
    assert one["name"] == "mobilenetv2:alpha=0.35"
    assert "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5" in one["reason"]
    assert "tlkit weights fetch mobilenetv2:alpha=0.35" in one["remedy"]


def test_a_preset_that_is_not_here_is_skipped_with_the_remedy(monkeypatch):
    monkeypatch.setattr("tlkit.backbones.hub.preset_at_hand", lambda spec: None)
    present, (skipped,) = candidates.at_hand(read_candidates(["hub:dinov2_small", "size=224"]))
    assert present == [] and skipped.name == "hub:dinov2_small,size=224"
    assert "tlkit weights fetch hub:dinov2_small" in skipped.remedy
    monkeypatch.setattr("tlkit.backbones.hub.preset_at_hand", lambda spec: Path("here"))
    assert candidates.at_hand(read_candidates(["hub:dinov2_small"]))[1] == []


def test_the_test_split_is_not_looked_at(ranked):
    assert ranked[1]["images"] == ranked[1]["available"] == 30  # 36 without two of each class
    assert "no choice may depend" in ranked[2]


def test_the_learning_curve_has_a_forecast_or_says_why_not(ranked):
    curve = ranked[1]["curve"]
    assert curve["candidate"] == ranked[1]["recommended"] and len(curve["points"]) == 4 and curve["advice"]
    assert bool(curve["trouble"]) != bool(curve["forecasts"])


def test_the_table_and_the_page_say_what_the_json_says(ranked):
    out, result, _ = ranked
    with (out / "rank.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == [one["name"] for one in result["candidates"]]
    assert [float(row["accuracy"]) for row in rows] == [one["accuracy"]["value"] for one in result["candidates"]]
    assert json.loads((out / "rank.json").read_text())["recommended"] == result["recommended"]
    page = (out / "rank.html").read_text()
    assert page.count("<svg") == 2 and not re.search(r"(src|href)=[\"']?http", page)
    assert all(f"{1e2 * one['accuracy']['value']:.1f}" in page for one in result["candidates"])


def test_features_and_a_second_ranking_compute_nothing_again(ranked, colours, tiny_backbone, tmp_path):
    config = RankConfig(
        images=str(colours), backbones=("nano:size=32", str(tiny_backbone)), prefer="speed", out=str(tmp_path / "again")
    )
    found = run(config)
    chosen = next(one for one in found["candidates"] if one["name"] == found["recommended"])
    assert chosen["within_noise"] and chosen["frontier"]
    one = next(one for one in found["candidates"] if one["name"] == str(tiny_backbone))
    before = next(found for found in ranked[1]["candidates"] if found["name"] == str(tiny_backbone))
    assert one["computed"] == 0 and (one["logme"], one["accuracy"]) == (before["logme"], before["accuracy"])
    table = FeaturesConfig(images=str(colours), backbone=str(tiny_backbone), out=str(tmp_path / "f.csv"))
    assert features.run(table)["computed"] == 6  # only the test split


def test_a_limit_takes_a_share_of_each_class(store, colours, tiny_backbone, tmp_path):
    config = RankConfig(images=str(colours), backbones=(str(tiny_backbone),), limit=12, out=str(tmp_path / "rank"))
    result = run(config)
    assert (result["images"], result["available"]) == (12, 30) and "12 of 30 images" in result["rule"]


def test_two_images_of_a_class_are_enough_to_be_unsure(store, colours, tiny_backbone, tmp_path):
    rows = [(str(colours / name / f"{i:02d}.png"), name) for name in ("blue", "red") for i in range(2)]
    (tmp_path / "few.csv").write_text("path,label\n" + "".join(f"{path},{name}\n" for path, name in rows))
    config = RankConfig(
        images=str(tmp_path / "few.csv"),
        backbones=(str(tiny_backbone),),
        test=0,
        how_many=True,
        out=str(tmp_path / "rank"),
    )
    result = run(config)
    accuracy = result["candidates"][0]["accuracy"]
    assert accuracy["high"] - accuracy["low"] > 0.4 and "too few images" in result["curve"]["trouble"]
    assert "<svg" in (tmp_path / "rank" / "rank.html").read_text()


def test_one_class_is_refused(store, colours, tiny_backbone, tmp_path):
    (tmp_path / "one.csv").write_text("path,label\n" + "".join(f"{colours}/red/{i:02d}.png,red\n" for i in range(6)))
    config = RankConfig(images=str(tmp_path / "one.csv"), backbones=(str(tiny_backbone),), out=str(tmp_path / "rank"))
    with pytest.raises(TlkitError, match="class"):
        run(config)
    assert not (tmp_path / "rank").exists()


def test_nothing_at_hand_is_an_error_with_the_remedy(store, colours, tmp_path):
    config = RankConfig(images=str(colours), backbones=("resnet50",), out=str(tmp_path / "rank"))
    with pytest.raises(TlkitError, match="no candidate's weights are on this machine"):
        run(config)


def test_a_candidate_whose_file_is_damaged_is_skipped_with_the_reason_and_the_others_are_ranked(
    store, colours, tiny_backbone, tmp_path, capsys
):
    cut = tmp_path / "cut.keras"
    cut.write_bytes(tiny_backbone.read_bytes()[:3000])
    config = RankConfig(images=str(colours), backbones=(str(cut), str(tiny_backbone)), out=str(tmp_path / "rank"))
    result = run(config, PlainStory())
    assert [one["name"] for one in result["candidates"]] == [str(tiny_backbone)]
    (skipped,) = result["skipped"]
    assert skipped["name"] == str(cut) and "it is damaged" in skipped["reason"] and skipped["remedy"]
    written = json.loads((tmp_path / "rank" / "rank.json").read_text())
    assert written["skipped"] == result["skipped"] and "it is damaged" in (tmp_path / "rank/rank.html").read_text()
    assert f"{cut} is skipped: " in capsys.readouterr().err
    assert re.search(rf"^  {re.escape(str(cut))} +skipped: .*it is damaged", result["text"], re.MULTILINE)


@pytest.mark.parametrize("count", [1, 2])
def test_where_no_candidate_can_be_opened_the_error_says_why(store, colours, tmp_path, count):
    files = [tmp_path / f"{place}.keras" for place in range(count)]
    for file in files:
        file.write_bytes(b"no network")
    config = RankConfig(images=str(colours), backbones=tuple(map(str, files)), out=str(tmp_path / "rank"))
    with pytest.raises(TlkitError, match="it is damaged") as error:
        run(config)
    assert all(str(file) in error.value.message for file in files) and error.value.hint
    assert not (tmp_path / "rank").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nano:size=16", "too small for nano"),
        ("nano:weights=none.h5", "'none.h5' of candidate 'nano:weights=none.h5' does not exist"),
        ("nowhere.keras", "'nowhere.keras' of candidate"),
        ("mobilenetv2:beta=1", "'beta' is not a variant"),
        ("mobilenetv2:alpha=0.4", "no ImageNet weights of mobilenetv2"),
    ],
)
def test_a_wrong_candidate_is_refused_before_anything_is_computed(store, colours, tmp_path, name, message):
    config = RankConfig(images=str(colours), backbones=("nano", name), out=str(tmp_path / "rank"))
    with pytest.raises(TlkitError, match=message):
        run(config)


def test_everyone_whose_weights_are_at_hand_takes_part(tmp_path, monkeypatch):
    monkeypatch.setattr("tlkit.backbones.weight_files.models_folder", lambda: tmp_path)
    (tmp_path / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5").touch()
    (tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    wanted, skipped = candidates.everyone(None)
    assert [one.name for one in wanted] == ["nano", "mobilenetv2:alpha=0.35", "vgg16"]
    assert {"resnet50", "vgg19"} <= {one.name for one in skipped} and "mobilenetv2" not in {one.name for one in skipped}
    small, refused = candidates.everyone(48)
    assert "nano:size=48" in {one.name for one in small}
    assert "needs 75 pixels" in next(one.reason for one in refused if one.name == "inceptionv3")


def test_a_group_stays_in_one_fold(store, colours, tiny_backbone, tmp_path):
    """Copies of one picture under three names would be recognised at once if they straddled folds."""
    random, lines = np.random.default_rng(0), []
    for group in range(10):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        for copy in range(3):
            path = tmp_path / f"{group}-{copy}.png"
            pixels[0, 0, 0] = 100 * copy
            Image.fromarray(pixels).save(path)
            lines.append(f"{path},{'ab'[group % 2]},g{group}\n")
    (tmp_path / "groups.csv").write_text("path,label,clip\n" + "".join(lines))
    accuracy = {}
    for group_by in (None, "clip"):
        config = RankConfig(
            images=str(tmp_path / "groups.csv"),
            backbones=(str(tiny_backbone),),
            group_by=group_by,
            test=0,
            out=str(tmp_path / f"rank-{group_by}"),
        )
        accuracy[group_by] = run(config)["candidates"][0]["accuracy"]["value"]
    assert accuracy["clip"] < accuracy[None] - 0.2
