"""Which images are shown."""

from dataclasses import replace

import numpy as np

from tests.report.pages import evaluation, predictions
from tlkit.report.gallery import BYTES, LEAST_SURE, PER_CELL, Album, galleries


def shown(rows, thumbnail=None):
    return galleries(rows, evaluation(rows).splits["test"], thumbnail)


def test_worst_errors_are_errors_of_the_main_split_surest_first():
    rows = predictions()
    test = rows.of_split("test")
    worst = shown(rows).worst
    assert len(worst) == min(24, int((test.predicted != test.labels).sum()))
    assert [card.probability for card in worst] == sorted((card.probability for card in worst), reverse=True)
    assert all(card.truth != card.predicted and card.path in test.paths for card in worst)
    surest = max(p.max() for p, wrong in zip(test.probabilities, test.predicted != test.labels, strict=True) if wrong)
    assert worst[0].probability == surest


def test_least_sure_have_the_smallest_margin():
    rows = predictions()
    test = rows.of_split("test")
    ordered = np.sort(test.probabilities, axis=1)
    margin = dict(zip(test.paths, ordered[:, -1] - ordered[:, -2], strict=True))
    assert [margin[card.path] for card in shown(rows).least_sure] == sorted(margin.values())[:LEAST_SURE]


def test_cells_hold_the_counts_of_the_matrix():
    rows = predictions(n=600)
    result = evaluation(rows).splits["test"]
    for cell in galleries(rows, result, None).cells:
        assert cell.row != cell.column
        assert cell.count == result.confusion[cell.row, cell.column]
        assert len(cell.cards) == min(cell.count, PER_CELL)
        assert {(card.truth, card.predicted) for card in cell.cards} == {(cell.truth, cell.predicted)}


def test_a_thumbnail_is_made_once_and_the_budget_holds():
    asked = []
    album = Album(lambda path: asked.append(path) or b"x" * 1_000_000)
    uris = [album.uri(f"{i % 3}.jpg") for i in range(12)]
    assert asked == ["0.jpg", "1.jpg", "2.jpg"]
    assert sum(len(uri) for uri in uris if uri) <= BYTES
    assert uris[-1] is None


def test_without_truth_without_sense_or_without_images_there_is_nothing_to_show():
    rows = predictions()
    result = evaluation(rows).splits["test"]
    broken = replace(rows, logits=np.full_like(rows.logits, np.nan))
    for empty in (galleries(None, result, None), galleries(rows, None, None), galleries(broken, result, None)):
        assert (empty.worst, empty.least_sure, empty.cells) == ((), (), ())
