import numpy as np
from sklearn.neighbors import NearestNeighbors

from tlkit.classifier.familiarity import nearest


def test_the_same_as_scikit_learn():
    random = np.random.default_rng(0)
    queries, references = random.normal(size=(300, 8)), random.normal(size=(40, 8))
    indices, cosines = nearest(queries, references, 5)
    distances, expected = NearestNeighbors(n_neighbors=5, metric="cosine").fit(references).kneighbors(queries)
    assert np.array_equal(indices, expected)
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-6)


def test_length_does_not_count_and_zeros_are_like_nothing():
    indices, cosines = nearest([[2.0, 0.0], [0.0, 0.0]], [[0.0, 3.0], [0.0, 0.0], [0.1, 0.0]], 9)
    assert indices.tolist() == [[2, 0, 1], [0, 1, 2]]  # ties in order; no more than there are
    assert cosines.tolist() == [[1, 0, 0], [0, 0, 0]]
