import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.machine import budget, free_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [("20", 20), ("0", 0), ("1K", 1024), ("1.5 GB", 3 * 2**29), ("500mb", 500 * 2**20), ("2TiB", 2**41), (" 7B ", 7)],
)
def test_sizes_as_people_write_them(text, count):
    assert parse_bytes(text, "--keep") == count


@pytest.mark.parametrize("text", ["", "-1", "GB", "1 apple", "1,5GB"])
def test_anything_else_is_refused_and_the_place_named(text):
    with pytest.raises(TlkitError, match="--keep is"):
        parse_bytes(text, "--keep")


def test_the_budget_is_what_was_set_or_half_of_what_the_disk_could_give(tmp_path, monkeypatch):
    monkeypatch.delenv("TLKIT_CACHE_BYTES", raising=False)
    most, reason = budget(tmp_path / "not yet" / "there", held=10**9)
    assert most == pytest.approx((free_bytes(tmp_path) + 10**9) / 2, rel=0.01) and "half" in reason
    monkeypatch.setenv("TLKIT_CACHE_BYTES", "3GB")
    assert budget(tmp_path, held=0) == (3 * 2**30, "TLKIT_CACHE_BYTES")
