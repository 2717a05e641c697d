"""The keys of a source's rows: they must not change, or every existing store would be recomputed."""

import contextlib
import pickle
from dataclasses import replace

import keras
import numpy as np
import pytest

from tlkit.auditing.flips import Mirror
from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.data.dataset import InputContract
from tlkit.data.scan import scan
from tlkit.data.views import Augmentation, TtaViews
from tlkit.extraction import executors
from tlkit.extraction.source import FeatureSource, Tap, evidence_space, find_tap
from tlkit.options.commands import EvaluateConfig, FeaturesConfig

SQUARE = InputContract(height=224, width=224, version=1)
PADDED = InputContract(height=160, width=96, fit="pad", version=1)
WEIGHTS = "5a" * 32
PLAIN, LIGHT = Augmentation(strength="none"), Augmentation(strength="light", seed=3)
GRID, POOLED = Tap("top_activation"), Tap("top_activation", "avg")

# As version 93062aa named the folders
KNOWN = [
    (POOLED, SQUARE, PLAIN, 0, {}, "b8bbcc1ce7b6e0e62bc3c2c482f94fcf"),
    (POOLED, SQUARE, LIGHT, 0, {}, "b8bbcc1ce7b6e0e62bc3c2c482f94fcf"),  # view 0 is the image, with any other views
    (GRID, SQUARE, LIGHT, 2, {}, "ada3477daa096195f573d777bedd065f"),
    (GRID, PADDED, PLAIN, 0, {"stored_as": "float16", "precision": "bfloat16"}, "649c4b584dad5ec176e48bcfe3c26bf1"),
    (POOLED, SQUARE, Mirror(), 1, {}, "961064a5966b6352b0e3bd0c403cf8bf"),
    (Tap("logits"), SQUARE, TtaViews(flip=True), 3, {}, "2ae052d6cdcb987fb33d64163db5212d"),
]


@pytest.mark.parametrize(("tap", "contract", "augmentation", "view", "how", "folder"), KNOWN)
def test_keys_are_those_of_stores_that_exist(tap, contract, augmentation, view, how, folder, empty_cache):
    source = FeatureSource(model=None, outputs=(tap.name,), weights_sha256=WEIGHTS, contract=contract, **how)
    assert source.space(tap.name, augmentation, view).folder == empty_cache / "features" / folder


def test_maps_of_evidence_are_found_again(empty_cache):
    assert evidence_space(WEIGHTS, SQUARE, 56).folder.name == "e79c7182d0a91eeec3d76fb24caea820"


@pytest.mark.parametrize("how", [{"engine_name": "keras"}, {"batch_size": 5}, {"name": "other"}, {"executor": "there"}])
def test_how_and_where_it_is_computed_is_no_part_of_a_key(how, empty_cache):
    source = FeatureSource(model=None, outputs=("grid",), weights_sha256=WEIGHTS, contract=SQUARE)
    other = FeatureSource(model=None, outputs=("grid",), weights_sha256=WEIGHTS, contract=SQUARE, **how)
    assert source.space("grid").folder == other.space("grid").folder


def test_a_source_is_as_a_command_asks():
    source = FeatureSource(model=None, outputs=("grid",), weights_sha256=WEIGHTS, contract=SQUARE)
    options = {"engine": "keras", "precision": "auto", "batch_size": 7}
    asked = source.asked(FeaturesConfig(images="i", out="o", backbone="nano", stored_as="float16", **options))
    assert (asked.engine_name, asked.precision, asked.batch_size, asked.stored_as) == ("keras", "auto", 7, "float16")
    assert [one.precision for one in asked.in_each_precision()] == ["float32", "bfloat16"]
    judging = source.asked(EvaluateConfig(run="r", **options))  # does not affect how rows are stored
    assert (judging.batch_size, judging.stored_as) == (7, "float32")


@pytest.fixture(scope="module")
def backbone(tiny_backbone):
    return build_backbone(str(tiny_backbone))


@pytest.fixture
def source(backbone):
    return FeatureSource.of_backbone(backbone, InputContract(height=32, width=32))


def test_a_backbone_is_tapped_in_one_pass_where_it_is_asked(backbone, colours, empty_cache):
    last = backbone.model.layers[-1].name
    taps = [Tap(last), Tap(last, "concat")]
    source, dataset = FeatureSource.of_backbone(backbone, InputContract(height=32, width=32), *taps), scan(colours)
    found = source.extract(dataset)
    assert source.outputs == (last, f"{last}:concat") and found.passes == len(dataset)
    grids = found.rows[:]
    assert grids.shape == (len(dataset), *backbone.grid_shape)
    both = np.concatenate([grids.mean(axis=(1, 2)), grids.max(axis=(1, 2))], axis=1)
    np.testing.assert_allclose(found.features[f"{last}:concat", 0][:], both, atol=1e-5)


def test_without_a_tap_it_is_the_averaged_grid(source, backbone, colours, empty_cache):
    dataset, tap = scan(colours), Tap(backbone.model.layers[-1].name)
    grids = FeatureSource.of_backbone(backbone, source.contract, tap).rows(dataset)
    assert source.outputs == (f"{tap.layer}:avg",)
    np.testing.assert_allclose(source.rows(dataset)[:], grids.pooled(), atol=1e-5)


def test_a_layer_is_found_or_refused(backbone):
    last = backbone.model.layers[-1].name
    assert find_tap(backbone, None, "avg") == Tap(last, "avg") and find_tap(backbone, last, "none") == Tap(last)
    with pytest.raises(TlkitError, match="nowhere"):
        find_tap(backbone, "nowhere", "avg")


def test_what_is_stored_is_read_without_the_network(source, colours, empty_cache):
    dataset = scan(colours)
    later = replace(source, model=None)
    assert later.stored(dataset.sha256).lacking.all()
    rows = source.rows(dataset)
    np.testing.assert_array_equal(later.stored(dataset.sha256)[:], rows[:])


def test_an_executor_of_several_workers_computes_the_same(
    source, backbone, colours, empty_cache, monkeypatch, tmp_path
):
    dataset, slices = scan(colours), []

    class Three(executors.Here):
        def map(self, work, samples, story):
            for rows in np.array_split(samples[::-1], 3):
                slices.append(rows)
                portion = pickle.loads(pickle.dumps(work.portion(rows)))  # as it would be sent
                yield from portion.portion(some := np.arange(len(rows)), work.engine())(some)

    monkeypatch.setitem(executors.EXECUTORS, "three", lambda address: contextlib.nullcontext(Three()))
    here = source.extract(dataset)
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "another"))
    three = replace(source, executor="three").extract(dataset)
    assert len(slices) == 3 and three.passes == here.passes == len(dataset)
    np.testing.assert_allclose(three.rows[:], here.rows[:], atol=1e-5)


def test_a_model_or_what_builds_it_will_do(source):
    built = replace(source, model=lambda: source.built)
    assert isinstance(source.built, keras.Model) and built.built is source.built
    assert built.row_bytes(source.outputs[0]) == 4 * source.built.output.shape[-1]
