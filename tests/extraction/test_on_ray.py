"""Rows computed by the workers of a Ray cluster: the same ones, each once, even when workers die."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlkit import pipelines
from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence
from tlkit.data.dataset import InputContract
from tlkit.data.scan import scan
from tlkit.extraction import executors
from tlkit.extraction import source as sources
from tlkit.extraction.engine import Engine
from tlkit.extraction.executors import on_ray
from tlkit.options.commands import FeaturesConfig
from tlkit.options.groups import parse_executor

pytest.importorskip("ray", reason="comes with the extra ray")
IMAGES, BATCH = 60, 8
LAST = 5  # images of the last batch, of 61 files


class Heard(Silence):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


# -- tests without a cluster ---


def test_an_executor_is_read_or_refused():
    assert parse_executor("ray") == ("ray", "") and parse_executor("ray:a:6379") == ("ray", "a:6379")
    for wrong, words in (("rey", "did you mean 'ray'"), ("here:1", "no address")):
        with pytest.raises(TlkitError) as refused:
            parse_executor(wrong)
        assert words in refused.value.message + refused.value.hint


def test_an_address_where_nobody_answers_is_refused_before_any_work(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and nobody listens
        config = FeaturesConfig(images=str(tmp_path), executor=f"ray:127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(TlkitError, match="no Ray cluster answers") as refused:
            pipelines.carry_out("features", config, Silence())
    assert "ray start --head" in refused.value.hint
    with pytest.raises(TlkitError, match="Ray Client"):
        pipelines.carry_out("features", replace(config, executor="ray:ray://127.0.0.1:10001"), Silence())


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(on_ray, "lacking", lambda extra: [extra])
    with pytest.raises(TlkitError, match="needs Ray") as refused, executors.opened("ray"):
        pass
    assert "pip install" in refused.value.hint


# -- two nodes of one core each on this machine, for all other tests ---


@pytest.fixture(scope="module")
def cluster():
    place = tempfile.mkdtemp(prefix="r-", dir="/tmp")  # a short name: Ray puts sockets into it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", place)
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
        found = Cluster(initialize_head=True, head_node_args=node)
        found.add_node(**node)
        yield found
        found.shutdown()
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """60 images and a copy, and one that cannot be decoded."""
    root, noise = tmp_path_factory.mktemp("sent") / "images", np.random.default_rng(0)
    for number in range(IMAGES):
        path = root / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    shutil.copy(root / "a" / "00.png", root / "b" / "copy.png")
    whole = (root / "a" / "02.png").read_bytes()
    (root / "a" / "broken.png").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture
def source(cluster, tmp_path):
    """The mean colour as features, by an engine that logs what it computes; `dies` says when its process dies."""

    def make(dies=lambda log, images: False, batch=BATCH):
        log = tmp_path / "computed"

        def opens():
            def run(images):
                if not images.any():  # the blank ones that a worker begins with
                    return (np.zeros((len(images), 3), np.float32),)
                with log.open("a") as file:
                    file.write(f"{len(images)}\n")
                if dies(log, images):
                    os.kill(os.getpid(), signal.SIGKILL)
                return (images.mean(axis=(1, 2)).astype(np.float32),)

            return Engine(run, "onnx", "a test")

        engine = replace(opens(), portable=lambda: opens)
        name = hashlib.sha256(str(tmp_path).encode()).hexdigest()
        return sources.FeatureSource(
            model=None,
            outputs=("colour:avg",),
            weights_sha256=name,
            contract=InputContract(height=16, width=16),
            shapes=((3,),),
            quick=lambda images: engine,
            batch_size=batch,
            executor=f"ray:{cluster.address}",
        ), log

    return make


def counted(log: Path) -> int:
    return sum(map(int, log.read_text().split()))


@pytest.mark.slow
def test_rows_are_those_of_one_process_and_only_lacking_ones_are_computed(source, images, empty_cache, monkeypatch):
    found, log = source()
    dataset, story = scan(images), Heard()
    known = dataset.select(np.arange(10))
    replace(found, executor="here").extract(known)
    log.unlink()
    there = found.extract(dataset, story=story)
    assert counted(log) == there.passes == IMAGES - 10
    assert [problem.path for problem in there.problems] == ["a/broken.png"]
    assert any("2 workers of 1 core on 2 nodes" in said for said in story.said)
    monkeypatch.setenv("TLKIT_CACHE", str(empty_cache / "another"))
    here = replace(found, executor="here").extract(dataset)
    assert here.problems == there.problems
    np.testing.assert_array_equal(here.rows.present()[:], there.rows.present()[:])


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_batch_and_stdout_stays_ours(source, images, empty_cache, capfd):
    def once(log, images):
        mark = log.with_name("died")
        if log.read_text().count("\n") < 3 or mark.exists():
            return False
        mark.touch()
        return True

    found, log = source(once)
    story, before = Heard(), signal.getsignal(signal.SIGTERM)
    there = found.extract(scan(images), story=story)
    assert there.passes == IMAGES and not there.rows.present().lacking.any()
    assert IMAGES < counted(log) <= IMAGES + BATCH
    assert sum("sent to another" in said for said in story.said) == 1
    assert signal.getsignal(signal.SIGTERM) is before
    heard = capfd.readouterr()
    assert heard.out == "" and "Unhandled" not in heard.err


@pytest.mark.slow
def test_of_a_task_of_several_batches_a_death_costs_the_one_that_was_computed(source, images, empty_cache, monkeypatch):
    monkeypatch.setattr(on_ray, "SHARES", 1)  # four batches a task, of nine in all

    def third(log, images):
        mark = log.with_name("died")
        if log.read_text().count("\n") < 6 or mark.exists():  # each worker is past its first
            return False
        mark.touch()
        return True

    found, log = source(third)
    story = Heard()
    there = found.extract(scan(images), story=story)
    assert there.passes == IMAGES and not there.rows.present().lacking.any()
    assert IMAGES < counted(log) <= IMAGES + BATCH
    assert sum("lost while it computed" in said for said in story.said) == 1


@pytest.mark.slow
def test_a_batch_that_always_kills_its_worker_is_named_after_two_tries_and_the_rest_is_kept(
    source, images, empty_cache
):
    found, log = source(lambda log, images: len(images) == LAST)
    dataset = scan(images)
    with pytest.raises(TlkitError, match=rf"died 2 times on the same {LAST} images, 'b/\d+.png'"):
        found.extract(dataset)
    assert log.read_text().split().count(str(LAST)) == 2
    assert (~found.stored(dataset.sha256).lacking).sum() >= IMAGES // 2


@pytest.mark.slow
def test_workers_that_die_before_they_compute_are_no_fault_of_their_batch(
    cluster, source, images, empty_cache, monkeypatch
):
    found, log = source()
    mark, engine = log.with_name("opened"), found.quick(1)

    def deadly(most):
        def opens():
            with mark.open("a") as file:
                file.write("x")
            if len(mark.read_text()) <= most:
                os.kill(os.getpid(), signal.SIGKILL)
            return engine.portable()()

        return replace(found, quick=lambda images: replace(engine, portable=lambda: opens))

    story = Heard()
    assert deadly(4).extract(scan(images), story=story).passes == counted(log) == IMAGES
    assert sum("before it computed" in said for said in story.said) == 4 > on_ray.TRIES
    monkeypatch.setattr(on_ray, "STARTS", 3)
    shutil.rmtree(empty_cache / "features")
    with pytest.raises(TlkitError, match="3 workers in a row died before they began"):
        deadly(1000).extract(scan(images))


@pytest.mark.slow
def test_a_worker_with_other_versions_is_refused(source, images, empty_cache, monkeypatch):
    real = on_ray.versions()
    monkeypatch.setattr(on_ray, "versions", lambda: real | {"pillow": "1.0"})
    found, log = source()
    with pytest.raises(TlkitError, match=rf"has pillow {real['pillow']}, but here is pillow 1\.0"):
        found.extract(scan(images))
    assert not log.exists()


@pytest.mark.slow
def test_work_on_items_one_by_one_comes_back_with_their_places(cluster, tmp_path):
    def squared(item):
        mark = tmp_path / f"begun-{item}"
        with mark.open("a") as file:
            file.write("x")
        if item == 2 and mark.read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
        if item > 4:
            raise ValueError("too large")
        return item**2

    story, items = Heard(), [3, 1, 2, 4]
    with executors.opened(f"ray:{cluster.address}") as executor:
        there = dict(executor.each(squared, items, story, "item {}".format))
        with pytest.raises(TlkitError, match="failed on item 5: ValueError: too large"):
            list(executor.each(squared, [5], story, "item {}".format))
    assert there == dict(executors.Here().each(squared, items, story)) == {0: 9, 1: 1, 2: 4, 3: 16}
    assert [said for said in story.said if "lost" in said] == [
        "a worker was lost while it computed (WorkerCrashedError); sent to another: item 2"
    ]


@pytest.mark.slow
def test_the_table_of_a_network_is_byte_for_byte_that_of_one_process(
    cluster, images, tiny_backbone, tmp_path, empty_cache
):
    tables = []
    for name, where in (("here", "here"), ("there", f"ray:{cluster.address}")):
        shutil.rmtree(empty_cache / "features", ignore_errors=True)
        out = tmp_path / f"{name}.csv"
        config = FeaturesConfig(images=str(images), backbone=str(tiny_backbone), out=str(out), executor=where)
        assert pipelines.carry_out("features", config, Silence())["computed"] == IMAGES
        tables.append(out.read_bytes())
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_ended_by_sigterm_it_leaves_nothing_behind(images, tiny_backbone, tmp_path):
    """A cluster of its own, which the command starts and ends."""
    command = [
        sys.executable,
        "-m",
        "tlkit",
        "features",
        str(images),
        "--backbone",
        str(tiny_backbone),
        "--executor",
        "ray",
    ]
    place = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    try:
        given = os.environ | {"TLKIT_CACHE": str(tmp_path / "cache"), "TMPDIR": place}
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path / "out.csv")], env=given, stderr=subprocess.PIPE, text=True
        )
        said = ""
        while "executor ray" not in said:
            said += process.stderr.readline()
            assert process.poll() is None, said
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        said += process.stderr.read()
        process.stderr.close()
        assert "interrupted." in said and "raylet" not in said
        mine = f"-{process.pid}-"  # in the name of its folder, which every process of the cluster knows
        assert not [one for at in (place, "/tmp") for one in Path(at).glob(f".tmp-*{mine}*")]
        deadline = time.monotonic() + 20
        while left := [one for one in Path("/proc").glob("[0-9]*/cmdline") if mine in _text(one)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.5)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
