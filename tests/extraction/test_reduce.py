import numpy as np
import pytest
from sklearn.decomposition import PCA

from tlkit.base.errors import TlkitError
from tlkit.extraction import transforms as reduce
from tlkit.extraction.store import Rows
from tlkit.extraction.transforms import TRANSFORMS, Components, parse_reduction


def test_components_are_those_of_the_training_rows_alone():
    random = np.random.default_rng(0)
    features = (random.random((40, 6)) @ random.random((6, 6))).astype(np.float32)
    train = np.arange(0, 40, 2)
    found = Components.fit(Rows(features).select(train), 3, seed=0)
    oracle = PCA(3, svd_solver="full").fit(features[train])
    np.testing.assert_allclose(np.abs(found.apply(features)), np.abs(oracle.transform(features)), atol=1e-4)
    assert found.explained == pytest.approx(oracle.explained_variance_ratio_.sum(), abs=1e-5)


def test_more_components_than_images_are_refused():
    with pytest.raises(TlkitError, match="more components") as caught:
        Components.fit(Rows(np.zeros((4, 9), np.float32)), 5, seed=0)
    assert "pca:4" in caught.value.hint


def test_many_rows_are_sampled_once_and_the_same(monkeypatch):
    monkeypatch.setattr(reduce, "FIT_ROWS", 10)
    features = np.random.default_rng(0).random((50, 4), dtype=np.float32)
    seen = []

    class Watched(Rows):
        def __getitem__(self, chosen):
            seen.append(chosen)
            return super().__getitem__(chosen)

    for _ in range(2):
        assert Components.fit(Watched(features), 2, seed=1).rows == 10
    assert len(seen[0]) == 10 and (seen[0] == seen[1]).all()


def test_what_is_saved_is_enough_to_apply_it_elsewhere(tmp_path):
    features = np.random.default_rng(0).random((30, 5), dtype=np.float32)
    found = Components.fit(Rows(features), 2, seed=0)
    found.save(tmp_path / "pca.npz")
    with np.load(tmp_path / "pca.npz", allow_pickle=False) as saved:
        np.testing.assert_allclose((features - saved["mean"]) @ saved["axes"], found.apply(features), atol=1e-6)
    assert found.describe() == {"method": "pca", "explained": found.explained, "fitted_on": 30}


def test_a_reduction_is_a_row_of_the_table(monkeypatch):
    assert parse_reduction("pca:7") == (Components, 7)
    monkeypatch.setitem(TRANSFORMS, "other", Components)
    assert parse_reduction("other:3") == (Components, 3)
    with pytest.raises(TlkitError, match="expected pca:N or other:N"):
        parse_reduction("third:3")


@pytest.mark.parametrize("text", ["pca", "pca:", "pca:0", "pca:-1", "pca:x", "umap:2"])
def test_anything_but_pca_n_is_refused(text):
    with pytest.raises(TlkitError, match="pca:N"):
        parse_reduction(text)
