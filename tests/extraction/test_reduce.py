import numpy as np
import pytest
from sklearn.decomposition import PCA

from tlkit.base.errors import TlkitError
from tlkit.extraction import transforms as reduce
from tlkit.extraction.transforms import fit_components, parse_reduction


def test_components_are_those_of_the_training_rows_alone():
    random = np.random.default_rng(0)
    features = (random.random((40, 6)) @ random.random((6, 6))).astype(np.float32)
    train = np.arange(0, 40, 2)
    found = fit_components(lambda rows: features[rows], train, 3, seed=0)
    oracle = PCA(3, svd_solver="full").fit(features[train])
    np.testing.assert_allclose(np.abs(found.apply(features)), np.abs(oracle.transform(features)), atol=1e-4)
    assert found.explained == pytest.approx(oracle.explained_variance_ratio_.sum(), abs=1e-5)


def test_more_components_than_images_are_refused():
    with pytest.raises(TlkitError, match="more components") as caught:
        fit_components(lambda rows: np.zeros((len(rows), 9), np.float32), np.arange(4), 5, seed=0)
    assert "pca:4" in caught.value.hint


def test_many_rows_are_sampled_once_and_the_same(monkeypatch):
    monkeypatch.setattr(reduce, "FIT_ROWS", 10)
    features = np.random.default_rng(0).random((50, 4), dtype=np.float32)
    seen = []
    for _ in range(2):
        fit_components(lambda rows: seen.append(rows) or features[rows], np.arange(50), 2, seed=1)
    assert len(seen[0]) == 10 and (seen[0] == seen[1]).all()


@pytest.mark.parametrize("text", ["pca", "pca:", "pca:0", "pca:-1", "pca:x", "umap:2"])
def test_anything_but_pca_n_is_refused(text):
    with pytest.raises(TlkitError, match="pca:N"):
        parse_reduction(text)
