"""Which images are shown."""

from dataclasses import replace

import numpy as np

from tests.report.pages import evaluation, neighbours, overlays, predictions, thumbnail
from tlkit.report.gallery import BYTES, NEIGHBOURS, OTHERS, PER_CELL, WORST, Album, Dealer, galleries
from tlkit.report.page import Page


def shown(rows, **fields):
    page = Page(title="", predictions=rows, **fields)
    return galleries(page, evaluation(rows).splits["test"], Album(page.thumbnail), Dealer)


def test_worst_errors_are_errors_of_the_main_split_surest_first():
    rows = predictions()
    test = rows.of_split("test")
    worst = shown(rows).worst
    wrong = int((test.predicted != test.labels).sum())
    assert (len(worst), shown(rows).errors) == (min(WORST, wrong), wrong)
    assert [card.probability for card in worst] == sorted((card.probability for card in worst), reverse=True)
    assert all(card.truth != card.predicted and card.path in test.paths for card in worst)
    surest = max(p.max() for p, wrong in zip(test.probabilities, test.predicted != test.labels, strict=True) if wrong)
    assert worst[0].probability == surest


def test_least_sure_have_the_smallest_margin():
    rows = predictions()
    test = rows.of_split("test")
    ordered = np.sort(test.probabilities, axis=1)
    margin = dict(zip(test.paths, ordered[:, -1] - ordered[:, -2], strict=True))
    assert [margin[card.path] for card in shown(rows).least_sure] == sorted(margin.values())[:OTHERS]


def test_cells_hold_the_counts_of_the_matrix():
    rows = predictions(n=600)
    result = evaluation(rows).splits["test"]
    for cell in shown(rows).cells:
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


def test_pictures_that_are_refused_are_counted():
    album = Album(lambda path: b"x" * 4_000_000)
    assert [album.uri(path) is None for path in "abc"] == [False, True, True]
    assert album.refused == 2
    assert Album(lambda path: None).uri("a") is None


def test_the_worst_errors_show_where_it_looked_and_what_it_knows():
    rows = predictions()
    asked = []
    worst = shown(rows, thumbnail=thumbnail, overlays=lambda paths: asked.append(paths) or overlays(paths)).worst
    assert asked == [[card.path for card in worst]]
    assert [card.overlay is not None for card in worst] == [True] * (len(worst) - 1) + [False]
    alike = shown(rows, neighbours=neighbours(rows.classes, rows.paths)).worst[0].alike
    assert [near.path for near in alike] == rows.paths[:NEIGHBOURS]


def test_held_back_are_those_below_the_threshold_surest_first():
    rows = predictions()
    found, test = shown(rows), rows.of_split("test")
    below = sorted((p for p in test.confidence if p < 0.6), reverse=True)
    assert found.held_back == len(below)
    assert [card.probability for card in found.abstained] == below[:OTHERS]
    assert shown(replace(rows, threshold=None)).abstained == ()


def test_unfamiliar_are_those_beyond_one_farthest_first():
    rows = predictions()
    far = rows.of_split("test").unfamiliarity
    found = shown(rows)
    assert [card.unfamiliarity for card in found.unfamiliar] == sorted(far[far > 1].tolist(), reverse=True)[:OTHERS]
    assert found.strange == (far > 1).sum() > 0
    assert shown(replace(rows, unfamiliarity=None)).unfamiliar == ()


def test_the_looks_of_a_class_are_training_images_of_it():
    rows = predictions()
    train = rows.of_split("train")
    asked = []
    looks = shown(rows, thumbnail=lambda path: asked.append(path) or path.encode()).looks
    assert list(looks) == list(rows.classes)
    assert {len(images) for images in looks.values()} == {4}
    assert set(asked[:12]) <= set(train.paths)


def test_without_truth_without_sense_or_without_images_there_is_nothing_to_show():
    rows = predictions()
    result = evaluation(rows).splits["test"]
    broken = Page(title="", predictions=replace(rows, logits=np.full_like(rows.logits, np.nan)))
    for page, split in ((Page(title=""), result), (Page(title="", predictions=rows), None), (broken, result)):
        empty = galleries(page, split, Album(None), Dealer)
        assert (empty.worst, empty.least_sure, empty.cells, empty.abstained) == ((), (), (), ())
