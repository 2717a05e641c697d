"""Downloads that go wrong in every way, against a server on this machine."""

import hashlib
import socket

import numpy as np
import pytest

from tests.samples.serving import HASTE, remote
from tlkit.core.errors import TlkitError
from tlkit.core.story import Silence
from tlkit.samples.download import download

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def get(server, tmp_path):
    server.content["a.bin"] = CONTENT

    def run(*manners: str, **changes: object) -> bytes:
        urls = tuple(server.url(manner, "a.bin") for manner in manners)
        download(remote(urls, CONTENT, **changes), tmp_path / "a.bin", Silence(), HASTE)
        return (tmp_path / "a.bin").read_bytes()

    return run


def test_a_whole_file_arrives_and_no_part_is_left(get, tmp_path):
    assert get("ok") == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("manner", ["truncates", "stalls"])
def test_a_broken_connection_is_resumed_where_it_stopped(get, server, manner):
    assert get(manner) == CONTENT
    assert server.ranges == ["", "bytes=150000-"]


def test_a_server_without_ranges_starts_over(get):
    assert get("norange") == CONTENT


def test_a_part_of_an_earlier_run_is_continued(get, server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:100_000])
    assert get("ok") == CONTENT
    assert server.ranges == ["bytes=100000-"]


def test_a_part_that_the_server_does_not_know_is_thrown_away(get, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:100_000])
    assert get("unsatisfiable") == CONTENT


def test_a_part_with_other_content_is_noticed_by_the_sum_and_thrown_away(get, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"z" * 100_000)
    with pytest.raises(TlkitError, match="sends another file: its sha256 is"):
        get("ok")
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(get, server):
    assert get("busy") == CONTENT
    assert server.requests["busy"] == 2


def test_wrong_content_is_refused_and_thrown_away(get, tmp_path):
    with pytest.raises(TlkitError, match=r"sends another file: its sha256 is .*, the recipe says"):
        get("lies")
    assert list(tmp_path.iterdir()) == []


def test_an_md5_is_checked_where_there_is_no_sha256(get):
    with pytest.raises(TlkitError, match="its md5 is"):
        get("ok", sha256="", md5="0" * 32)
    assert get("ok", sha256="", md5=hashlib.md5(CONTENT).hexdigest()) == CONTENT


def test_without_any_sum_the_size_is_checked(get):
    with pytest.raises(TlkitError, match="has 300,000 bytes where the recipe says 299,999"):
        get("ok", sha256="", bytes=299_999)
    assert get("ok", sha256="") == CONTENT


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("403", "answers with HTTP 403 \\(Forbidden\\)"),
        ("404", "answers with HTTP 404 \\(Not Found\\)"),
        ("500", "answers with HTTP 500 \\(3 tries\\)"),
        ("longer", "has 300,004 bytes where the recipe says 300,000: the file was changed"),
        ("endless", "sends more than the 300,000 bytes"),
        ("never", "breaks off \\(timed out\\) \\(3 tries\\)"),
    ],
)
def test_what_the_server_does_wrong_is_said(get, manner, reason):
    with pytest.raises(TlkitError, match=f"a.bin cannot be downloaded: 127.0.0.1:.* {reason}"):
        get(manner)


def test_a_range_that_was_not_asked_for_is_refused(get, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(TlkitError, match="sends bytes 1001-299999 where 1000- was asked for") as error:
        get("shifted")
    assert "1,000 of 300,000 bytes are kept" in error.value.hint


def test_the_next_address_is_tried(get):
    assert get("404", "lies", "ok") == CONTENT


def test_no_network_is_one_error_with_the_ways_out(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.bin"
        with pytest.raises(TlkitError, match=r"cannot be reached .*refused") as error:
            download(remote(url, CONTENT), tmp_path / "a.bin", Silence(), HASTE)
    assert "HTTPS_PROXY" in error.value.hint
    assert str(tmp_path / "a.bin") in error.value.hint


def test_a_name_that_nobody_knows_is_said_so(tmp_path):
    with pytest.raises(TlkitError, match=r"nowhere\.invalid cannot be reached"):
        download(remote("http://nowhere.invalid/a.bin", CONTENT), tmp_path / "a.bin", Silence(), HASTE)


def test_a_file_brought_by_hand_needs_no_network_but_is_checked(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    download(remote("http://nowhere.invalid/a.bin", CONTENT), tmp_path / "a.bin", Silence(), HASTE)
    (tmp_path / "a.bin").write_bytes(CONTENT[1:])
    with pytest.raises(TlkitError, match=r"is not a\.bin: it has 299,999 bytes, the recipe says 300,000") as error:
        download(remote("http://nowhere.invalid/a.bin", CONTENT), tmp_path / "a.bin", Silence(), HASTE)
    assert error.value.hint == "delete it, then run the same command again."
    assert (tmp_path / "a.bin").exists()  # somebody brought it here: it is not ours to delete
