"""The read-only commands: doctor, backbones, cache."""

import os
import time

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.extraction.store import Appender, open_space
from tlkit.options.commands import BackbonesConfig, CacheConfig, DoctorConfig
from tlkit.pipelines.upkeep import backbones, cache, doctor


def test_doctor_names_versions_and_places(empty_cache):
    found = doctor.run(DoctorConfig())
    assert found["versions"]["keras"] in found["text"]
    assert found["cache"] == {"folder": str(empty_cache), "reason": "TLKIT_CACHE", "writable": True}


@pytest.mark.parametrize("proxy", ["http://me:secret@proxy:3128", "me:secret@proxy:3128"])
def test_doctor_keeps_passwords_to_itself(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("KERAS_HOME", "/home/me@work/keras")
    settings = doctor.run(DoctorConfig())["settings"]
    assert settings["HTTPS_PROXY"].endswith("***@proxy:3128") and "secret" not in settings["HTTPS_PROXY"]
    assert settings["KERAS_HOME"] == "/home/me@work/keras"


def test_every_backbone_is_listed():
    found = backbones.run(BackbonesConfig())
    assert {"resnet50", "vgg16", "inceptionv3", "mobilenetv2", "nano"} <= {row["name"] for row in found["backbones"]}
    assert all(row["name"] in found["text"] for row in found["backbones"])


def test_presets_are_listed_by_what_was_published_with_their_licences():
    found = backbones.run(BackbonesConfig())
    known = [row["accuracy"] for row in found["presets"] if row["accuracy"]]
    assert known == sorted(known, reverse=True) and known[0] == 87.1
    small = next(row for row in found["presets"] if row["name"] == "dinov2_small")
    assert (small["accuracy"], small["measured"], small["licence"]) == (81.1, "linear", "Apache-2.0")
    third = [row for row in found["presets"] if row["name"].startswith("dinov3")]
    assert third and all("DINOv3 License" in row["licence"] and row["accuracy"] is None for row in third)
    assert "hub:dinov2_small" in found["text"] and "as the authors published it" in found["text"]


def fill(output, view, days):
    """A space of three images, used last so many days ago."""
    contract = {"height": 8, "width": 8, "fit": "squash"}
    description = {"weights": "0123456789", "output": output, "contract": contract, "view": view}
    space = open_space(description, {"network": "nano"})
    with Appender(space) as appender:
        appender.append(np.arange(96, dtype=np.uint8).reshape(3, 32), np.zeros((3, 2**18), np.float32))
    os.utime(space.folder / "lease", (time.time() - days * 86_400,) * 2)


def outputs(shown):
    return [space["output"] for space in shown["spaces"]]


def test_the_cache_says_what_it_holds_in_a_line_for_each_kind(empty_cache, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE_BYTES", "10MB")
    for output, view, days in (("grid", 0, 3), ("grid", 1, 3), ("cut", 0, 9)):
        fill(output, view, days)
    shown = cache.run(CacheConfig())
    assert [space["images"] for space in shown["spaces"]] == [3, 3, 3] and shown["budget"] == 10 * 2**20
    grid, cut, total = shown["text"].splitlines()
    assert "3 images" in grid and "6.0 MB" in grid and "used 3 days ago" in grid
    assert "nano (weights 01234567), grid, 8x8 squash, view 0, 1" in grid
    assert "used 9 days ago" in cut and "cut" in cut
    assert "9.0 MB of 10.0 MB (TLKIT_CACHE_BYTES)" in total


def test_the_cache_is_cleared_all_or_by_age_or_down_to_a_size(empty_cache):
    for output, days in (("a", 30), ("b", 20), ("c", 10), ("d", 1)):
        fill(output, 0, days)
    assert outputs(cache.run(CacheConfig(action="clear", older_than=25))) == ["b", "c", "d"]
    cleared = cache.run(CacheConfig(action="clear", keep="7MB"))
    assert outputs(cleared) == ["c", "d"] and "removed 3.0 MB" in cleared["text"]
    contract = {"height": 8, "width": 8, "fit": "squash"}
    kept = open_space({"weights": "0123456789", "output": "c", "contract": contract, "view": 0})
    cleared = cache.run(CacheConfig(action="clear"))
    assert outputs(cleared) == ["c"] and "kept 3.0 MB that another process is using" in cleared["text"]
    del kept
    cache.run(CacheConfig(action="clear"))
    assert cache.run(CacheConfig())["spaces"] == []


def test_what_to_clear_means_nothing_to_show():
    with pytest.raises(TlkitError, match="--keep says what to clear"):
        CacheConfig(keep="1GB")
