"""Copies: images that are the same picture saved again, resized, brightened or cropped a little.

Three tests in sequence, each cheap enough for the pairs that remain: neighbours by feature cosine propose
pairs, perceptual hashes discard most of them, and small grey copies laid over each other, one cropped in
small steps, decide. What all images of a set have in common (a face in the middle, one background) is
projected out first: it is no sign of a copy. And each pair is compared with what a picture of such detail
reaches with a crop of itself: two soft digits correlate highly without being copies, two photographs do not.
The thresholds were measured on copies of photographs, see docs/log.md and benchmarks/audit.py.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from tlkit.base.machine import usable_cores
from tlkit.base.story import SILENCE, Heard, Story, unheard
from tlkit.classifier.answers import IN_TRAINING
from tlkit.classifier.familiarity import unit
from tlkit.data.dataset import Dataset
from tlkit.data.look import HASH_SIDE, Looks, distance, look, perceptual_hash

COUNT = 10
_BLOCK = 1 << 24  # similarities in memory at a time: 64 MB
_PARTED = 64  # similarities that are searched together


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of N images, nearest first; no image is its own neighbour.

    Args:
        indices: int32 (N, k).
        cosines: float32 (N, k), -1..1, descending.
    """

    indices: np.ndarray
    cosines: np.ndarray


def nearest(features: np.ndarray, count: int = COUNT, heard: Heard = unheard) -> Neighbours:
    """Compare every image with every other one.

    Args:
        features: float32 (N, C), of length 1 each, see `unit`.
        count: neighbours wanted; fewer where there are fewer images.
        heard: called with the progress.
    """
    n = len(features)
    count = min(count, n - 1)
    indices, cosines = np.empty((n, count), np.int32), np.empty((n, count), np.float32)
    step = max(1, _BLOCK // max(n, 1))
    for start in range(0, n if count > 0 else 0, step):
        rows = np.arange(start, min(start + step, n))
        block = features[rows] @ features.T
        block[np.arange(len(rows)), rows] = -np.inf
        best = _largest(block, count)
        values = np.take_along_axis(block, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        indices[rows] = np.take_along_axis(best, order, axis=1)
        cosines[rows] = np.take_along_axis(values, order, axis=1)
        heard((rows[-1] + 1) / n)
    return Neighbours(indices, cosines)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """int64 (m, count), indices of the largest of each row of float32 (m, n), in any order.

    Only parts of long rows are searched: the largest values lie in the `count` parts with the greatest maxima.
    """
    m, n = values.shape
    wide = n // _PARTED
    if wide < 8 * count:
        return np.argpartition(values, n - count, axis=1)[:, n - count :]
    even = values[:, : wide * _PARTED].reshape(m, _PARTED, wide)
    parts = np.argpartition(even.max(axis=1), wide - count, axis=1)[:, wide - count :]
    places = (parts[:, :, None] + wide * np.arange(_PARTED)).reshape(m, -1)
    rest = np.broadcast_to(np.arange(wide * _PARTED, n), (m, n - wide * _PARTED))
    places = np.concatenate([places, rest], axis=1)
    few = np.take_along_axis(values, places, axis=1)
    return np.take_along_axis(places, np.argpartition(few, few.shape[1] - count, axis=1)[:, -count:], axis=1)


# -- Copies: images that are the same picture saved again, resized, brightened or cropped a little ---

CANDIDATES = 5  # neighbours of each image that are tested; copies of copies form chains
MOST_BITS = 20  # of 64: crops of 5 % lie at 8 to 18, unrelated pictures at 32 ± 4
LEAST_CORRELATION = 0.88  # aligned: 99 in 100 copies 0.9 to 1, the most similar unrelated pictures 0.87
MOST_LOSS = (
    10.0  # times the loss of the picture against a crop of itself: 98 in 100 copies up to 6, similar digits from 9
)
_GREY_LEVELS = 1e-3  # what rounding to grey levels may cost a pair
_TRIAL_CROPS = (
    (0.96, 0.3, 0.7),
    (0.965, 0.8, 0.2),
)  # side, and offsets as shares of its slack; they avoid the steps below
_COMMON, _SAMPLE = 4, 500  # directions projected out besides the mean, from that many images, at least 50 for each
_SCALES = (
    (0.95, 5),
    (0.975, 3),
    (0.925, 3),
)  # side of the crop that is laid over the other picture, and steps along its slack
_LEAST_REST = 0.05  # of a picture's norm: a smaller remainder is noise
_WORTH_ALIGNING = 0.3  # correlation before alignment: crops of 5 % have 0.45 to 0.95
_SAME = 1 - 1e-6  # likewise: no crop can improve it
_BATCH, _FEW = 4096, 256  # pairs compared at a time, and of these by one thread: their matrices fit in its cache
LISTED = 50_000  # candidates up to which all are compared


def near_duplicates(neighbours: Neighbours, small: np.ndarray, sha256: np.ndarray | None = None) -> np.ndarray:
    """Number the pictures: images with the same number show the same one, exactly or nearly.

    An image of test leaks from training where its number also occurs there:
    `np.isin(groups[test], groups[train])`.

    Args:
        neighbours: of every image by feature cosine, see `neighbours.nearest`.
        small: uint8 (N, 32, 32), grey copies of the images, all resized to one square.
        sha256: uint8 (N, 32) of the files; equal ones share a number in any case.

    Returns:
        int64 (N,), 0..M-1 for M different pictures, numbered by first appearance.
    """
    left, right, _ = near_pairs(neighbours, small)
    if sha256 is not None:
        first = exact_duplicates(sha256)
        copies = np.flatnonzero(first != np.arange(len(first)))
        left, right = np.concatenate([left, copies]), np.concatenate([right, first[copies]])
    return connected(len(small), left, right)


def exact_duplicates(sha256: np.ndarray) -> np.ndarray:
    """int64 (N,), the first row with the same content as each row.

    Args:
        sha256: uint8 (N, 32).
    """
    _, first, inverse = np.unique(sha256, axis=0, return_index=True, return_inverse=True)
    return first[inverse.ravel()]


def near_pairs(
    neighbours: Neighbours, small: np.ndarray, story: Story = SILENCE, heard: Heard = unheard
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs that show the same picture.

    With more than `LISTED` candidates, as from a fixed camera, a pair whose images are already known through other pairs
    to show the same picture is counted, not compared; the pictures are the same.

    Args:
        neighbours: of every image by feature cosine.
        small: uint8 (N, 32, 32), grey copies.
        story: reports how many pairs were not compared.
        heard: called with the progress.

    Returns:
        left int64 (n,), right int64 (n,), left < right, and their agreement, float32 (n,), 0.88..1.
    """
    pairs = _candidates(neighbours, small)
    common, reached = common_directions(small), np.full(len(small), np.nan, np.float32)
    many, pictures, spared = len(pairs) > LISTED, np.arange(len(small)), 0
    found: list[tuple[np.ndarray, np.ndarray]] = [(np.empty((0, 2), np.int64), np.empty(0, np.float32))]
    with threadpool_limits(1), ThreadPoolExecutor(usable_cores()) as pool:  # of BLAS, whose matrices here are small
        for start in range(0, len(pairs), _BATCH):
            part = pairs[start : start + _BATCH]
            if many:
                new = pictures[part[:, 0]] != pictures[part[:, 1]]
                part, spared = part[new], spared + int((~new).sum())
            alike, agreement = _alike(part, small, common, reached, pool)
            found.append((alike, agreement))
            if many:
                pictures = connected(len(small), pictures[alike[:, 0]], pictures[alike[:, 1]])[pictures]
            heard(min(1.0, (start + _BATCH) / len(pairs)))
    if spared:
        story.say(f"{spared:,} further pairs of look-alikes within pictures found already are counted, not compared")
    alike, agreement = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort(alike.T[::-1])
    return alike[order, 0], alike[order, 1], agreement[order]


def _candidates(neighbours: Neighbours, small: np.ndarray) -> np.ndarray:
    """int64 (n, 2), left < right: neighbours with similar hashes; all first neighbours before all second ones, and so on."""
    count = min(CANDIDATES, neighbours.indices.shape[1])
    left = np.tile(np.arange(len(small)), count)
    right = neighbours.indices[:, :count].T.ravel().astype(np.int64)
    low, high = np.minimum(left, right), np.maximum(left, right)
    _, first = np.unique(low * len(small) + high, return_index=True)
    first.sort()
    blocks = range(0, len(small), _BATCH)
    hashes = [perceptual_hash(small[start : start + _BATCH]) for start in blocks]
    near = distance(np.concatenate(hashes), low[first], high[first]) <= MOST_BITS
    return np.stack([low[first][near], high[first][near]], axis=1)


def _alike(
    pairs: np.ndarray, small: np.ndarray, common: np.ndarray, reached: np.ndarray, pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray]:
    """Those of the pairs int64 (n, 2) that show the same picture, and their agreement.

    Args:
        pairs: candidates.
        small: uint8 (N, 32, 32), of all images.
        common: directions that are projected out.
        reached: float32 (N,), `attainable` of images where it is known, else NaN; missing values are filled in as needed.
        pool: computes a few at a time.
    """

    def compare(few: np.ndarray) -> np.ndarray:
        return aligned_correlation(small[few[:, 0]], small[few[:, 1]], common)

    def cut(rows: np.ndarray) -> list[np.ndarray]:
        return [rows[start : start + _FEW] for start in range(0, max(1, len(rows)), _FEW)]

    agreement = np.concatenate(list(pool.map(compare, cut(pairs))))
    pairs, agreement = pairs[agreement >= LEAST_CORRELATION], agreement[agreement >= LEAST_CORRELATION]
    same = 1 - agreement <= _GREY_LEVELS  # whatever is attainable
    rows = np.unique(pairs[~same])
    rows = rows[np.isnan(reached[rows])]
    reached[rows] = np.concatenate(list(pool.map(lambda few: attainable(small[few], common), cut(rows))))
    same[~same] = (
        1 - agreement[~same] <= MOST_LOSS * (1 - reached[pairs[~same]].max(axis=1, initial=-1.0)) + _GREY_LEVELS
    )
    return pairs[same], agreement[same]


def connected(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """int64 (count,), a number for each set of rows connected by pairs, in order of first appearance."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse.ravel()]


def common_directions(small: np.ndarray) -> np.ndarray:
    """float32 (d, 1024), orthonormal: the mean picture of a set and its directions of greatest variation; none for small sets.

    Args:
        small: uint8 (N, 32, 32), grey.
    """
    count = min(_COMMON, len(small) // 50 - 1)
    if count < 0:
        return np.empty((0, HASH_SIDE * HASH_SIDE), np.float32)
    sample = small[np.linspace(0, len(small) - 1, min(len(small), _SAMPLE)).astype(int)]
    vectors = _unit(sample.astype(np.float32))
    mean = vectors.mean(axis=0)
    with threadpool_limits(1):  # beside other programs, threads of BLAS wait ten times as long for each other
        varied = np.linalg.svd(vectors - mean, full_matrices=False)[2][:count]
    return np.linalg.qr(np.concatenate([mean[None], varied]).T)[0].T.astype(np.float32)


def aligned_correlation(left: np.ndarray, right: np.ndarray, common: np.ndarray) -> np.ndarray:
    """float32 (n,), the best correlation of two pictures when either may be a crop of the other.

    Args:
        left: (n, 32, 32), grey 0..255.
        right: (n, 32, 32), grey 0..255.
        common: float32 (d, 1024), orthonormal directions to project out.
    """
    left, right = left.astype(np.float32), right.astype(np.float32)
    rests = _rest(left, common), _rest(right, common)
    found = (rests[0] * rests[1]).sum(axis=1)
    near = np.flatnonzero((found >= _WORTH_ALIGNING) & (found < _SAME))
    best = found[near]
    for whole, other in ((left[near], rests[1][near]), (right[near], rests[0][near])):
        np.maximum(best, _best_crop(whole, other, common), out=best)
    found[near] = best
    return found


def _best_crop(whole: np.ndarray, other: np.ndarray, common: np.ndarray) -> np.ndarray:
    """float32 (n,), the best correlation of any crop of pictures (n, 32, 32) with the `_rest` (n, 1024) of others."""
    n, best = len(whole), np.full(len(whole), -1.0, np.float32)
    whole = whole - whole.mean(axis=(1, 2), keepdims=True)  # crops keep the difference; less cancels below
    # All arrays are transposed, columns before rows, so that both steps are products of two large matrices.
    turned, marks = _turned(other), _turned(common)
    sums = marks.sum(axis=1)
    for scale, steps in _SCALES:
        shifts = [_stretch(scale, shift) for shift in np.linspace(0, 1, steps)]
        for columns in shifts:
            stretched = (whole.reshape(-1, HASH_SIDE) @ columns.T).reshape(n, HASH_SIDE, HASH_SIDE)
            across = _turned(stretched).reshape(-1, HASH_SIDE)
            for rows in shifts:
                crops = (across @ rows.T).reshape(n, HASH_SIDE * HASH_SIDE)
                np.maximum(best, _correlation(crops, turned, marks, sums), out=best)
    return best


def _turned(pictures: np.ndarray) -> np.ndarray:
    """(n, 1024), pictures of any shape with rows and columns exchanged."""
    square = pictures.reshape(len(pictures), HASH_SIDE, HASH_SIDE)
    return np.ascontiguousarray(square.swapaxes(1, 2)).reshape(len(pictures), HASH_SIDE * HASH_SIDE)


def _correlation(crops: np.ndarray, other: np.ndarray, common: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """float32 (n,): product of the `_rest` of crops (n, 1024) with other rests (n, 1024), without computing the former.

    A rest is orthogonal to the common directions and to constant pictures, so projecting either out of the crop as well
    changes only its norm.
    """
    mean = crops.mean(axis=1)
    square = np.einsum("ij,ij->i", crops, crops) - mean * mean * crops.shape[1]
    length = np.sqrt(np.maximum(square, 0))
    along = crops @ common.T - mean[:, None] * sums  # of the crop without its mean
    left = np.sqrt(np.maximum(square - np.einsum("ij,ij->i", along, along), 0))
    counts = (length > HASH_SIDE) & (left > _LEAST_REST * length)
    return np.einsum("ij,ij->i", crops, other) / np.where(counts, left, np.inf)


def attainable(pictures: np.ndarray, common: np.ndarray) -> np.ndarray:
    """float32 (n,), the correlation that pictures uint8 (n, 32, 32) reach with crops of themselves."""
    found = np.ones(len(pictures), np.float32)
    for side, top, left in _TRIAL_CROPS:
        cropped = _stretch(side, top) @ pictures.astype(np.float32) @ _stretch(side, left).T
        np.minimum(found, aligned_correlation(pictures, np.rint(cropped), common), out=found)
    return found


def _unit(pictures: np.ndarray) -> np.ndarray:
    """Pictures as vectors of mean 0 and length 1; uniform ones as zeros."""
    vectors = pictures.reshape(len(pictures), HASH_SIDE * HASH_SIDE)
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(
        length > HASH_SIDE, length, np.inf
    )  # below one grey level per pixel there is nothing to compare


def _rest(pictures: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Pictures with the common directions projected out, at length 1; zeros where hardly anything remains."""
    vectors = _unit(pictures)
    vectors = vectors - (vectors @ common.T) @ common
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > _LEAST_REST, length, np.inf)


def _stretch(scale: float, shift: float) -> np.ndarray:
    """float32 (32, 32): linear interpolation at the pixels of a part that begins at `shift` of its slack."""
    at = np.clip((np.arange(HASH_SIDE) + 0.5) * scale + shift * HASH_SIDE * (1 - scale) - 0.5, 0, HASH_SIDE - 1)
    low = np.minimum(at.astype(int), HASH_SIDE - 2)
    matrix = np.zeros((HASH_SIDE, HASH_SIDE), np.float32)
    matrix[np.arange(HASH_SIDE), low] = 1 - (at - low)
    matrix[np.arange(HASH_SIDE), low + 1] += at - low
    return matrix


# -- Leakage: which images are exact or near-duplicates of training images ---


def in_training(pictures: np.ndarray, sha256: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """int8 (N,), index into `IN_TRAINING`: exact and near-duplicates of training images, among images outside training.

    Args:
        pictures: int (N,), equal for images that show the same picture.
        sha256: uint8 (N, 32).
        trained: bool (N,).
    """
    contents = np.unique(sha256, axis=0, return_inverse=True)[1].ravel()
    codes = np.zeros(len(trained), np.int8)
    for kind, numbers in (("near", pictures), ("exact", contents)):
        codes[~trained & np.isin(numbers, numbers[trained])] = IN_TRAINING.index(kind)
    return codes


def copied_clips(sha256: np.ndarray, training: np.ndarray, trained: np.ndarray | None = None) -> np.ndarray | None:
    """`in_training` for clips, where only exact copies are looked for: int8 (N,); None where there is none.

    Args:
        sha256: uint8 (N, 32), of clips.
        training: uint8 (M, 32), of those that were trained on.
        trained: bool (N,), which clips are these themselves.
    """
    known = {row.tobytes() for row in training}
    found = np.array([row.tobytes() in known for row in sha256], dtype=bool)
    found = found if trained is None else found & ~trained
    return np.where(found, IN_TRAINING.index("exact"), 0).astype(np.int8) if found.any() else None


def kin_of(dataset: Dataset, looks: Looks, training: Dataset, story: Story) -> np.ndarray:
    """`in_training` for images outside the run: int8 (N,), by their copies among the images of a training set.

    Training images that can no longer be read are left out, with a message; exact copies of them are still found.

    Args:
        dataset: N images.
        looks: of their files.
        training: the images that were trained on.
        story: reports what is missing.
    """
    theirs = look(training.files, story=story)
    gone = int((theirs.width == 0).sum())
    if gone:
        story.say(f"{gone} of {len(training)} training images cannot be read: no near-duplicates of them are found")
    there = np.flatnonzero(theirs.width > 0)
    small = np.concatenate([looks.small, theirs.small[there]])
    sha256 = np.concatenate([dataset.sha256, training.sha256[there]])
    pictures = near_duplicates(nearest(unit(flat(small))), small, sha256)
    codes = in_training(pictures, sha256, np.arange(len(small)) >= len(dataset))[: len(dataset)]
    known = {row.tobytes() for row in training.sha256}
    codes[[row.tobytes() in known for row in dataset.sha256]] = IN_TRAINING.index("exact")
    return codes


def flat(small: np.ndarray) -> np.ndarray:
    """float32 (N, S * S): grey copies uint8 (N, S, S) as features, each minus its mean; for use without a network."""
    values = small.reshape(len(small), -1).astype(np.float32)
    return values - values.mean(axis=1, keepdims=True)
