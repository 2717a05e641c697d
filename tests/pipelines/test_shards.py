"""Shards of the work: disjoint, in any order, on any machine; the same bytes, and nothing computed twice."""

import errno
import fcntl
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import TlkitError
from tlkit.data.scan import scan
from tlkit.extraction import store
from tlkit.extraction.extract import held_by
from tlkit.extraction.shards import list_shards, read_shard
from tlkit.options.commands import AuditConfig, FeaturesConfig, PredictConfig, RankConfig
from tlkit.options.groups import Portion
from tlkit.options.option import option_meant
from tlkit.pipelines import audit, features, predict, rank

SHARDS = 4


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """203 small images in three folders, three of them copies of others."""
    root = tmp_path_factory.mktemp("many") / "images"
    noise = np.random.default_rng(0)
    for number in range(203):
        folder = root / ("a", "b", "c")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        if number < 200:
            pixels = noise.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    (root / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    return root


@pytest.fixture
def config(many, tiny_backbone, tmp_path):
    """Options of `tlkit features` on them."""

    def make(out="features.csv", **options):
        given = {"images": str(many), "backbone": str(tiny_backbone), "out": str(tmp_path / out)}
        return FeaturesConfig(**given | options)

    return make


def stored(cache):
    """The keys of every row in the store, with repetitions."""
    return [
        bytes(key)
        for space in (cache / "features").iterdir()
        for index in list_shards(space)
        for key in read_shard(index).keys
    ]


# -- whose an image is ---


def test_shares_are_disjoint_even_and_do_not_depend_on_the_rest_of_the_set():
    sha256 = np.random.default_rng(1).integers(0, 256, (20_000, 32), np.uint8)
    held = np.stack([held_by(Portion(number, 7), sha256) for number in range(1, 8)])
    assert (held.sum(axis=0) == 1).all()
    assert abs(held.mean(axis=1) - 1 / 7).max() < 4 * np.sqrt(1 / 7 * 6 / 7 / 20_000)
    some = np.random.default_rng(2).permutation(20_000)[:500]
    np.testing.assert_array_equal(held_by(Portion(3, 7), sha256[some]), held[2][some])


def test_the_share_of_a_known_digest():
    """By hand: 0x0102030405060708 = 72623859790382856, and that modulo 10 is 6, the seventh share."""
    digest = np.array([[*range(1, 9), *[0xFF] * 24]], np.uint8)
    assert [bool(held_by(Portion(number, 10), digest)[0]) for number in (6, 7, 8)] == [False, True, False]


# -- the same bytes ---


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (3, 1, 4, 2)])
def test_shards_in_any_order_and_then_only_gathering(
    config, many, empty_store, kept_network, tmp_path, order, monkeypatch
):
    found = [features.run(config(shard=f"{number}/{SHARDS}")) for number in order]
    assert not (tmp_path / "features.csv").exists() and all(each["out"] is None for each in found)
    assert sum(each["computed"] for each in found) == 200
    assert sum(each["images"] for each in found) == len(scan(many))
    assert sorted(set(stored(empty_store))) == sorted(stored(empty_store))
    gathered = features.run(config())
    assert gathered["computed"] == 0 and len(gathered["set_aside"]) == 1
    monkeypatch.setenv("TLKIT_CACHE", str(shutil.copytree(kept_network, tmp_path / "another")))
    assert features.run(config("alone.csv"))["computed"] == 200
    assert (tmp_path / "alone.csv").read_bytes() == (tmp_path / "features.csv").read_bytes()


def test_four_processes_at_once(config, tmp_path, empty_cache):
    given = config()
    start = [sys.executable, "-m", "tlkit", "features", given.images, "--backbone", given.backbone, "--json"]
    begun = [
        subprocess.Popen([*start, "--shard", f"{number}/{SHARDS}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for number in (2, 4, 1, 3)
    ]
    found = [json.loads(process.communicate()[0]) for process in begun]
    assert sum(each["computed"] for each in found) == 200
    assert features.run(config())["computed"] == 0


KILLED = """
import os, signal, sys
from tlkit.extraction import store
from tlkit.options.commands import FeaturesConfig
from tlkit.pipelines.features import run

store.SHARD_SECONDS = 0.0
kept = store.Appender.append
batches = []

def until(self, *given):
    kept(self, *given)
    batches.append(1)
    if len(batches) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

store.Appender.append = until
images, backbone, out, shard = sys.argv[2:]
run(FeaturesConfig(images=images, backbone=backbone, out=out, shard=shard, batch_size=8))
"""


def test_a_killed_shard_that_is_run_again_computes_nothing_twice(config, empty_store):
    given = config()
    arguments = [given.images, given.backbone, given.out, "2/4"]
    killed = subprocess.run([sys.executable, "-c", KILLED, "3", *arguments], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    before = len(stored(empty_store))
    assert before == 24
    again = features.run(config(shard="2/4"))
    others = [features.run(config(shard=f"{number}/4"))["computed"] for number in (1, 3, 4)]
    assert before + again["computed"] + sum(others) == 200
    assert len(stored(empty_store)) == len(set(stored(empty_store))) == 200
    assert features.run(config())["computed"] == 0


def test_more_shards_than_images_leave_some_with_nothing(config, empty_store):
    assert features.run(config(shard="1/50000"))["computed"] <= 1


# -- file systems without locks, and files that another machine removed ---


def test_where_files_cannot_be_locked_the_same_holds(config, tmp_path, empty_cache, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for number in (4, 3, 2, 1):
        features.run(config(shard=f"{number}/{SHARDS}"))
    assert features.run(config())["computed"] == 0


def test_a_file_that_another_machine_has_just_joined_is_looked_for_again(config, empty_store, monkeypatch):
    features.run(config())
    fails, read = itertools.count(), store.read_shard

    def stale(index):
        if next(fails) == 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(index)

    monkeypatch.setattr(store, "read_shard", stale)
    assert features.run(config("again.csv"))["computed"] == 0


def test_a_shard_joins_no_files_but_its_own(config, empty_store, monkeypatch):
    """On a network file system a file that is removed is gone for those who read it on other machines."""
    monkeypatch.setattr(store, "SHARD_SECONDS", 0.0)
    features.run(config(shard="1/2", batch_size=1))
    space = next(path for path in (empty_store / "features").iterdir())
    first = set(list_shards(space))
    assert len(first) < 20, "own ones are joined"
    features.run(config(shard="2/2", batch_size=1))
    assert first <= set(list_shards(space))


# -- the other commands ---


def test_shares_of_an_audit(colours, empty_cache, tmp_path):
    given = {"images": str(colours), "out": str(tmp_path / "audit")}
    found = [audit.run(AuditConfig(**given, shard=f"{number}/3")) for number in (3, 1, 2)]
    assert sum(each["images"] for each in found) == 36 and not (tmp_path / "audit").exists()
    rows = len(stored(empty_cache))
    assert audit.run(AuditConfig(**given))["images"] == 36
    assert len(stored(empty_cache)) == rows, "mirror images too"


def test_shares_of_a_ranking(colours, tiny_backbone, empty_cache, tmp_path):
    given = {"images": str(colours), "out": str(tmp_path / "rank"), "backbones": ("nano", str(tiny_backbone))}
    for number in (2, 1):
        rank.run(RankConfig(**given, shard=f"{number}/2"))
    ranked = rank.run(RankConfig(**given))
    assert [each["computed"] for each in ranked["candidates"]] == [0, 0]


@pytest.mark.parametrize("tta", [1, 2])
def test_shares_of_predictions(finished, many, empty_cache, tmp_path, tta, monkeypatch):
    given = {"run": str(finished[0]), "paths": (str(many),), "tta": tta}
    alone = predict.run(PredictConfig(**given, out=str(tmp_path / "alone.csv")))
    found = [
        predict.run(PredictConfig(**given, shard=f"{number}/3")) for number in random.Random(tta).sample((1, 2, 3), 3)
    ]
    assert sum(each["computed"] for each in found) == 200
    monkeypatch.setattr(predict, "watching", lambda *given: pytest.fail("something was computed"))
    gathered = predict.run(PredictConfig(**given, out=str(tmp_path / "gathered.csv")))
    assert (tmp_path / "alone.csv").read_bytes() == (tmp_path / "gathered.csv").read_bytes()
    assert [row["path"] for row in gathered["set_aside"]] == [row["path"] for row in alone["set_aside"]]


# -- what is refused ---


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/2/3", "1/100001"])
def test_what_is_no_share(text):
    with pytest.raises(TlkitError, match="expected I/N"):
        FeaturesConfig(images="tests", shard=text)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (FeaturesConfig, {"images": "tests", "precision": "auto"}),
        (PredictConfig, {"run": "tests", "paths": ("tests",), "precision": "bfloat16"}),
        (PredictConfig, {"run": "tests", "paths": ("-",)}),
    ],
)
def test_shares_that_could_not_be_gathered(kind, options):
    with pytest.raises(TlkitError, match="--shard 1/2 with"):
        kind(**options, shard="1/2")


def test_other_commands_say_where_shards_are():
    assert "tlkit finetune reads what they computed" in option_meant("--shard", ("epochs", "val"), "finetune")


def test_a_file_that_cannot_be_read_can_be_refused_by_its_shard(config, empty_store):
    refused = []
    for number in range(1, SHARDS + 1):
        try:
            features.run(config(shard=f"{number}/{SHARDS}", on_bad="fail"))
        except TlkitError as error:
            refused.append(error.message)
    assert len(refused) == 1 and "broken.png" in refused[0]
    assert os.environ["TLKIT_CACHE"] == str(empty_store)
