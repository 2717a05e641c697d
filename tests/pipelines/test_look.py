"""The commands that only look: doctor, backbones, cache."""

from tlkit.core.config import BackbonesConfig, CacheConfig, DoctorConfig
from tlkit.extraction.store import open_space
from tlkit.pipelines import backbones, cache, doctor


def test_doctor_names_versions_and_places(empty_cache):
    found = doctor.run(DoctorConfig())
    assert found["versions"]["keras"] in found["text"]
    assert found["cache"] == {"folder": str(empty_cache), "reason": "TLKIT_CACHE", "writable": True}


def test_every_backbone_is_listed():
    found = backbones.run(BackbonesConfig())
    assert {"resnet50", "vgg16", "inceptionv3", "mobilenetv2", "nano"} <= {row["name"] for row in found["backbones"]}
    assert all(row["name"] in found["text"] for row in found["backbones"])


def test_the_cache_is_shown_and_cleared(empty_cache):
    contract = {"height": 8, "width": 8}
    space = open_space({"weights": "0123456789", "output": "grid", "contract": contract, "view": 0})
    (space.folder / "x.ids").write_bytes(bytes(96))
    shown = cache.run(CacheConfig())
    assert shown["spaces"][0]["images"] == 3 and "grid at 8x8" in shown["text"]
    cache.run(CacheConfig(action="clear"))
    assert cache.run(CacheConfig())["spaces"] == []
