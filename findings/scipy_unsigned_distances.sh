#!/usr/bin/env bash
# What: SciPy's distances of two arrays of uint8 wrap round: of 39 other pictures 95 % are 0 from the first by cosine(), and by
#   euclidean(), cityblock(), minkowski() and chebyshev() a copy with a little noise is farther away than a foreign picture. The
#   sqeuclidean() of the same two arrays is right: euclidean() is not its root. cosine() warns once of an overflow, the others of nothing.
# Why it surprises: cdist() and pdist() with the metrics of the same names are right, as are half of the functions beside them
#   (sqeuclidean, correlation, braycurtis, canberra); the manual speaks of arrays, of no type. Reported for two of them in 2019
#   (scipy#9961) and open.
# Who is hurt: copies and neighbours looked for pair by pair among pixels, thumbnails or quantised features, all of which are uint8.
# Instead: .astype(float), or cdist (both checked below).
# Source: https://docs.scipy.org/doc/scipy/reference/generated/scipy.spatial.distance.euclidean.html ("u: (N,) array_like").
# Guessed beforehand: all of them convert.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np, scipy
from scipy.ndimage import gaussian_filter
from scipy.spatial import distance

print("SciPy", scipy.__version__, "NumPy", np.__version__)
random = np.random.default_rng(0)
smooth = gaussian_filter(random.normal(0, 1, (40, 32, 32, 3)), (0, 3, 3, 0))
low, high = smooth.min((1, 2, 3), keepdims=True), smooth.max((1, 2, 3), keepdims=True)
pictures = (20 + 200 * (smooth - low) / (high - low)).round().astype("uint8").reshape(40, -1)
copies = (pictures + random.integers(-3, 4, pictures.shape)).astype("uint8")  # the same pictures with a little noise


def nearest(measure, queries, rows):
    """The share of the noisy copies whose nearest picture is their own; a distance that fails counts as far."""
    own = 0
    for number, query in enumerate(queries):
        found = []
        for row in rows:
            try:
                found.append(measure(query, row))
            except ValueError:
                found.append(np.inf)
        own += int(np.argmin(found) == number)
    return own / len(queries)


wrong = {"cosine", "euclidean", "cityblock", "minkowski", "chebyshev"}
for name in ("cosine", "euclidean", "cityblock", "minkowski", "chebyshev", "sqeuclidean", "correlation", "braycurtis", "canberra"):
    measure = getattr(distance, name)
    pair = pictures[0], pictures[3]
    try:
        given = float(measure(*pair))
    except ValueError as error:
        given = error
    exact = measure(*(row.astype(float) for row in pair))
    by_cdist = distance.cdist(pair[:1], pair[1:], name).item()
    shares = nearest(measure, copies, pictures), nearest(measure, copies.astype(float), pictures.astype(float))
    print(f"  {name:11} of two pictures: uint8 {given}, float {exact:.6g}, cdist of uint8 {by_cdist:.6g}; noisy copies found: uint8 {shares[0]:.0%}, float {shares[1]:.0%}")
    assert np.isclose(by_cdist, exact) and shares[1] == 1
    if name in wrong:
        assert (isinstance(given, ValueError) or not np.isclose(given, exact, rtol=0.1)) and shares[0] < 0.5, "unsigned numbers are right now"
    else:
        assert np.isclose(given, exact) and shares[0] == 1
cosines = np.array([distance.cosine(pictures[0], other) for other in pictures[1:]])
print(f"  of the cosine distances of one picture to 39 others {np.mean(cosines == 0):.0%} are 0, the largest is {cosines.max():.2f}")
assert np.mean(cosines == 0) > 0.3
PY
