import io
import os
import random
import shutil
import threading
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.data.scan import scan
from tlkit.data.views import Augmentation
from tlkit.extraction import engine as inference
from tlkit.extraction.shards import rows_of
from tlkit.extraction.source import FeatureSource
from tlkit.extraction.store import look_up

CONTRACT = InputContract(height=32, width=32)


def source_of(model, outputs, weights_sha256, **how):
    return FeatureSource(model=model, outputs=outputs, weights_sha256=weights_sha256, contract=CONTRACT, **how)


def extract(source, dataset, *, story=None, views=(0,), viewed=None, augmentation=None, **how):
    """Extract as a command with these options would."""
    asked = replace(source, **how) if how else source
    return asked.extract(dataset, views=views, viewed=viewed, augmentation=augmentation, story=story)


@pytest.fixture(scope="module")
def backbone(tiny_backbone):
    return build_backbone(str(tiny_backbone))


@pytest.fixture
def network(backbone):
    grid = backbone.model.output
    pooled = keras.layers.GlobalAveragePooling2D()(grid)
    return source_of(keras.Model(backbone.model.input, [pooled, grid]), ("pooled", "grid"), backbone.weights_sha256)


@pytest.fixture
def images(colours, tmp_path):
    return shutil.copytree(colours, tmp_path / "images")


def test_features_are_what_keras_computes_from_the_same_pixels(network, backbone, images, empty_cache):
    dataset = scan(images)
    found = extract(network, dataset, batch_size=7)
    pixels = np.stack([decode(dataset.file(i), CONTRACT) for i in range(len(dataset))])
    grid = np.asarray(backbone.model(pixels))
    everything = np.arange(len(dataset))
    np.testing.assert_allclose(found.features["grid", 0][everything], grid, atol=1e-4)
    np.testing.assert_allclose(found.features["pooled", 0][everything], grid.mean(axis=(1, 2)), atol=1e-4)
    assert found.passes == 36


def test_a_second_time_nothing_is_computed_and_no_engine_built(network, images, empty_cache, monkeypatch):
    first = extract(network, scan(images))
    monkeypatch.setattr(inference, "build_engine", lambda model, **options: pytest.fail("an engine was built"))
    afresh = source_of(network.model, network.outputs, network.weights_sha256)
    second = extract(afresh, scan(images))
    assert (first.passes, second.passes, second.stored) == (36, 0, 36)


def test_only_new_and_changed_images_are_computed(network, images, empty_cache):
    extract(network, scan(images))
    shutil.copy(images / "red" / "00.png", images / "red" / "copy.png")  # known content under a new name
    (images / "red" / "01.png").write_bytes((images / "red" / "01.png").read_bytes() + b"\0")
    assert extract(network, scan(images)).passes == 1


def test_further_views_are_made_of_the_asked_images_alone_and_of_their_copies(network, images, empty_cache):
    shutil.copy(images / "red" / "00.png", images / "blue" / "00-copy.png")  # comes before the one that is asked for
    dataset, augmentation = scan(images), Augmentation(seed=3)
    asked = [dataset.paths.index(f"red/{number:02d}.png") for number in range(10)]
    found = extract(network, dataset, views=(0, 1), viewed=np.array(asked), augmentation=augmentation)
    assert found.passes == 36 + 10 and found.engine.startswith(network.engine.name)
    assert not found.features["grid", 0].lacking.any()
    there = np.flatnonzero(~found.features["grid", 1].lacking)
    assert there.tolist() == sorted([*asked, dataset.paths.index("blue/00-copy.png")])
    again = extract(network, dataset, views=(0, 1), augmentation=augmentation)
    assert (again.passes, again.stored) == (36 - 10, 37 + 11)


def test_another_size_or_fit_or_weights_is_computed_anew(network, images, empty_cache):
    extract(network, scan(images))
    assert extract(network, scan(images), contract=InputContract(height=32, width=32, fit="pad")).passes == 36
    other = source_of(network.model, network.outputs, "other weights")
    assert extract(other, scan(images)).passes == 36


def test_an_output_that_is_new_is_computed_and_the_old_one_not_stored_twice(network, backbone, images, empty_cache):
    pooled_only = source_of(
        keras.Model(backbone.model.input, network.model.outputs[0]), ("pooled",), backbone.weights_sha256
    )
    extract(pooled_only, scan(images))
    extract(network, scan(images))
    rows = [sum(rows_of(file) for file in folder.glob("*.idx")) for folder in (empty_cache / "features").iterdir()]
    assert rows == [36, 36]


def test_exact_duplicates_go_through_the_network_once(network, images, empty_cache):
    for number in range(5):
        shutil.copy(images / "red" / "00.png", images / "blue" / f"copy{number}.png")
    found = extract(network, scan(images))
    assert found.passes == 36
    assert not found.features["grid", 0].lacking.any()


def test_unreadable_files_are_listed_with_every_copy_and_lack_a_row(network, images, empty_cache):
    whole = (images / "red" / "00.png").read_bytes()
    for name in ("cut.png", "cut-again.png"):
        (images / "red" / name).write_bytes(whole[: len(whole) // 2])
    dataset = scan(images)
    found = extract(network, dataset)
    assert sorted(problem.path for problem in found.problems) == ["red/cut-again.png", "red/cut.png"]
    assert found.features["grid", 0].lacking.sum() == 2
    assert len(found.features["grid", 0].present()) == 36


def test_views_differ_from_each_other_and_are_the_same_every_time(network, images, empty_cache, monkeypatch, tmp_path):
    augmentation = Augmentation(seed=3)
    everything = np.arange(36)
    first = extract(network, scan(images), views=(0, 1, 2), augmentation=augmentation)
    assert first.passes == 3 * 36
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "another"))
    second = extract(network, scan(images), views=(0, 1, 2), augmentation=augmentation, batch_size=5)
    for view in (0, 1, 2):
        np.testing.assert_allclose(
            first.features["grid", view][everything], second.features["grid", view][everything], atol=1e-5
        )
    assert np.abs(first.features["grid", 1][everything] - first.features["grid", 2][everything]).max() > 0.01


def test_half_precision_is_a_space_of_its_own_half_as_large_and_read_as_float32(network, images, empty_cache):
    whole = extract(network, scan(images)).features["grid", 0][np.arange(36)]
    half = extract(network, scan(images), stored_as="float16")
    read = half.features["grid", 0][np.arange(36)]
    assert half.passes == 36 and read.dtype == np.float32
    np.testing.assert_array_equal(read, whole.astype(np.float16))
    sizes = sorted(path.stat().st_size for path in empty_cache.rglob("*.npy"))
    assert sizes[-1] - sizes[-2] == 36 * 4 * 4 * 16 * 2  # the grids; the header of a file takes as much in both


def test_a_network_is_not_built_when_nothing_is_lacking(network, images, empty_cache):
    extract(network, scan(images))
    later = source_of(lambda: pytest.fail("it was built"), network.outputs, network.weights_sha256)
    assert extract(later, scan(images)).stored == 36
    (images / "red" / "01.png").write_bytes((images / "red" / "01.png").read_bytes() + b"\0")
    later = source_of(lambda: network.model, network.outputs, network.weights_sha256)
    assert extract(later, scan(images)).passes == 1


def test_room_is_made_before_anything_is_computed(network, images, empty_cache, monkeypatch, capsys):
    old = source_of(network.model, network.outputs, "old weights")
    extract(old, scan(images))
    bytes_of_one = sum(path.stat().st_size for path in empty_cache.rglob("*"))
    monkeypatch.setenv("TLKIT_CACHE_BYTES", str(int(bytes_of_one * 1.5)))
    extract(network, scan(images), story=PlainStory())
    assert "removed from the store" in capsys.readouterr().err
    assert extract(network, scan(images)).passes == 0
    assert extract(old, scan(images)).passes == 36


def test_killed_half_way_it_goes_on_where_it_was(network, images, empty_cache, monkeypatch):
    real = inference.build_engine

    def failing(model, **options):
        engine, calls = real(model, **options), []

        def run(batch):
            calls.append(1)
            if len(calls) > 3:
                raise KeyboardInterrupt
            return engine.run(batch)

        return type(engine)(run, engine.name, engine.reason)

    monkeypatch.setattr(inference, "build_engine", failing)
    with pytest.raises(KeyboardInterrupt):
        extract(network, scan(images), batch_size=8)
    monkeypatch.setattr(inference, "build_engine", real)
    afresh = source_of(network.model, network.outputs, network.weights_sha256)
    assert extract(afresh, scan(images), batch_size=8).passes == 36 - 3 * 8


def test_a_precision_is_a_space_of_its_own_and_auto_takes_the_one_in_the_store(
    network, images, empty_cache, monkeypatch
):
    story, dataset = PlainStory(), scan(images)

    def half(model, **options):
        assert options == {"engine": "keras", "precision": "bfloat16"}
        shapes = [(16,), (4, 4, 16)]
        return inference.Engine(
            lambda pixels: tuple(np.ones((len(pixels), *shape)) for shape in shapes), "made", "test"
        )

    monkeypatch.setattr(inference, "build_engine", half)
    afresh = source_of(network.model, network.outputs, network.weights_sha256)
    first = extract(afresh, dataset, engine_name="keras", precision="bfloat16")
    monkeypatch.undo()
    monkeypatch.setenv("TLKIT_CACHE", str(empty_cache))
    again = extract(network, dataset, precision="auto", story=story)
    assert (first.passes, again.passes) == (36, 0) and again.features["grid", 0][np.arange(36)].min() == 1
    assert extract(network, dataset).passes == 36
    assert network.describe("grid", {})["precision"] == "float32"


@pytest.fixture
def diverged(tiny_backbone, network):
    """The network with a NaN weight, as after diverged training."""
    model = keras.models.clone_model(network.model)
    weights = network.model.get_weights()
    weights[0] = weights[0].copy()
    weights[0].flat[0] = np.nan
    model.set_weights(weights)
    return source_of(model, network.outputs, "diverged", name="tiny")


def test_features_that_are_not_finite_are_refused_by_network_and_image_and_not_stored(diverged, images, empty_cache):
    dataset = scan(images)
    with pytest.raises(TlkitError, match=r"tiny gives nan as a feature of 'blue/0\d.png'"):
        extract(diverged, dataset)
    with pytest.raises(TlkitError):  # nor is anything found the second time
        extract(diverged, dataset)
    assert not any(len(np.load(file, mmap_mode="r")) for file in empty_cache.rglob("values*.npy"))


def test_a_store_that_holds_such_features_from_before_is_refused(diverged, images, empty_cache, monkeypatch):
    dataset = scan(images)
    for place in ("extract", "executors"):
        monkeypatch.setattr(f"tlkit.extraction.{place}.refuse_not_finite", lambda *_: None)
    extract(diverged, dataset)
    monkeypatch.undo()
    monkeypatch.setenv("TLKIT_CACHE", str(empty_cache))
    with pytest.raises(TlkitError, match="tiny gives nan"):
        extract(diverged, dataset)


def test_one_image_of_which_features_are_not_finite_is_the_one_named(images, empty_cache):
    """A network that divides by the mean of the pixels cannot take a black image."""
    black = io.BytesIO()
    Image.new("RGB", (8, 8)).save(black, "PNG")
    (images / "red" / "dark.png").write_bytes(black.getvalue())
    taken = keras.Input((32, 32, 3))
    mean = keras.ops.mean(taken, axis=(1, 2))
    model = keras.Model(taken, mean / keras.ops.mean(mean, axis=1, keepdims=True))
    with pytest.raises(TlkitError, match=r"'red/dark\.png'"):
        extract(source_of(model, ("ratio",), "divides", name="ratios"), scan(images))


def test_an_image_replaced_after_it_was_listed_is_named_and_never_stored_as_the_other(
    network, images, empty_cache, capsys
):
    dataset = scan(images)
    red, blue = images / "red", images / "blue"
    expected = extract(network, dataset).features["pooled", 0][np.arange(len(dataset))]
    shutil.rmtree(empty_cache)
    shutil.copy(blue / "01.png", red / "00.png")  # replaced
    (red / "02.png").unlink()
    (red / "03.png").write_bytes((red / "03.png").read_bytes()[:50])
    found = extract(network, dataset, story=PlainStory(1))
    reasons = {problem.path: problem.reason for problem in found.problems}
    assert set(reasons) == {"red/00.png", "red/02.png", "red/03.png"}
    assert "has changed" in reasons["red/00.png"] and "No such file" in reasons["red/02.png"]
    assert all(name in capsys.readouterr().err for name in ("3 files could not be used",))
    good = np.flatnonzero(~found.features["pooled", 0].lacking)
    assert len(good) == len(dataset) - 3
    np.testing.assert_allclose(found.features["pooled", 0][good], expected[good], atol=1e-5)


def test_a_replaced_image_is_read_from_its_copy(network, images, empty_cache):
    shutil.copy(images / "red" / "00.png", images / "red" / "zz.png")
    dataset = scan(images)
    shutil.copy(images / "blue" / "01.png", images / "red" / "00.png")
    found = extract(network, dataset)
    assert not found.problems and not found.features["pooled", 0].lacking.any()


def test_damage_in_the_store_is_said_once_and_computed_again(network, images, empty_cache, capsys):
    dataset = scan(images)
    everything = np.arange(len(dataset))
    expected = extract(network, dataset).features["grid", 0][everything]
    for path in empty_cache.glob("features/*/*.npy"):
        content = bytearray(path.read_bytes())
        content[-3] ^= 16
        path.write_bytes(content)
    capsys.readouterr()
    again = extract(network, dataset, story=PlainStory(1))
    assert capsys.readouterr().err.count("damaged in the feature store") == 2  # two spaces
    assert again.passes
    np.testing.assert_allclose(again.features["grid", 0][everything], expected, atol=1e-5)
    assert not extract(network, dataset).passes


MOMENTS = int(os.environ.get("TLKIT_MOMENTS", "10"))


def disturb(images, contents, rng, seconds):
    """Replace, cut, remove and restore images until the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(rng.random() * 0.01)
        path = images / f"{rng.randrange(36):02d}.png"
        content = rng.choice(contents)
        if rng.random() < 0.2:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.2 else content)


def test_images_replaced_at_any_moment_are_stored_under_their_own_content_or_not_at_all(
    network, images, tmp_path, empty_cache, monkeypatch
):
    contents = [path.read_bytes() for path in sorted(images.rglob("*.png"))]
    contents += [content + b"\0" for content in contents]
    every = tmp_path / "every"
    every.mkdir()
    for number, content in enumerate(contents):
        (every / f"{number:02d}.png").write_bytes(content)
    listed = scan(every, labelled=False)
    clean = extract(network, listed).features["pooled", 0][np.arange(len(listed))]
    stored = 0
    for seed in range(MOMENTS):
        rng = random.Random(seed)
        monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / f"cache-{seed}"))
        folder = tmp_path / f"images-{seed}"
        folder.mkdir()
        for number in range(36):
            (folder / f"{number:02d}.png").write_bytes(contents[number])
        thread = threading.Thread(target=disturb, args=(folder, contents, rng, 0.05 + rng.random()))
        thread.start()
        try:
            extract(network, scan(folder, labelled=False), batch_size=4)
        finally:
            thread.join()
        space = network.space("pooled", Augmentation(strength="none"), 0)
        found = look_up(space, listed.sha256)
        there = np.flatnonzero(~found.lacking)
        stored += len(there)
        if len(there):
            np.testing.assert_allclose(found[there], clean[there], atol=1e-5)
        shutil.rmtree(folder)
    assert stored
