"""Downloads that fail in every way, from a local server."""

import hashlib
import shutil
import socket
import ssl
import subprocess
import threading

import numpy as np
import pytest

from tests.misbehaving import HASTE, remote
from tlkit.base.download import download
from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence

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
    with pytest.raises(TlkitError, match=r"sends another file: its sha256 is .*, expected"):
        get("lies")
    assert list(tmp_path.iterdir()) == []


def test_an_md5_is_checked_where_there_is_no_sha256(get):
    with pytest.raises(TlkitError, match="its md5 is"):
        get("ok", sha256="", md5="0" * 32)
    assert get("ok", sha256="", md5=hashlib.md5(CONTENT).hexdigest()) == CONTENT


def test_without_any_sum_the_size_is_checked(get):
    with pytest.raises(TlkitError, match="has 300,000 bytes, expected 299,999"):
        get("ok", sha256="", bytes=299_999)
    assert get("ok", sha256="") == CONTENT


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("403", "answers with HTTP 403 \\(Forbidden\\)"),
        ("404", "answers with HTTP 404 \\(Not Found\\)"),
        ("500", "answers with HTTP 500 \\(3 tries\\)"),
        ("longer", "has 300,004 bytes, expected 300,000: the file was changed"),
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
    assert "1,000 bytes are kept" in error.value.hint


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
    with pytest.raises(TlkitError, match=r"is not a\.bin: it has 299,999 bytes, expected 300,000") as error:
        download(remote("http://nowhere.invalid/a.bin", CONTENT), tmp_path / "a.bin", Silence(), HASTE)
    assert error.value.hint == "delete it, then run the same command again."
    assert (tmp_path / "a.bin").exists()  # the user put it here: it must not be deleted


def test_a_size_that_nobody_states_is_learned_from_the_server(get, server):
    assert get("truncates", bytes=0, sha256="") == CONTENT
    assert server.ranges == ["", "bytes=150000-"]


def test_without_any_size_half_a_file_could_not_be_told_from_a_whole_one(get):
    with pytest.raises(TlkitError, match="does not say how long the file is"):
        get("endless", bytes=0)


def test_the_sum_that_the_server_states_counts_where_nobody_else_states_one(get, tmp_path):
    assert get("states", bytes=0, sha256="") == CONTENT
    (tmp_path / "a.bin").unlink()
    with pytest.raises(TlkitError, match=r"its md5 is [0-9a-f]{32}, the server states [0-9a-f]{32}"):
        get("misstates", bytes=0, sha256="")
    assert list(tmp_path.iterdir()) == []


def test_a_check_of_the_caller_s_own_is_asked(server, tmp_path):
    server.content["a.bin"] = CONTENT
    with pytest.raises(TlkitError, match="sends another file: no music in it"):
        download(
            remote(server.url("ok", "a.bin"), CONTENT),
            tmp_path / "a.bin",
            Silence(),
            check=lambda path: "no music in it",
        )


def test_two_at_once_share_one_download(server, tmp_path):
    server.content["a.bin"] = CONTENT
    failed = []

    def fetch():
        try:
            download(remote(server.url("stalls", "a.bin"), CONTENT), tmp_path / "a.bin", Silence(), HASTE)
        except TlkitError as error:
            failed.append(error)

    both = [threading.Thread(target=fetch) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert failed == [] and (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.requests["stalls"] == 2  # of one download: the second resumes where the first stalled
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_nothing_is_asked_for(value, get, server, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", value)
    with pytest.raises(TlkitError, match=r"a\.bin is not in .*, and tlkit is offline"):
        get("ok")
    assert not server.requests and list(tmp_path.iterdir()) == []
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert get("ok") == CONTENT


def test_a_setting_that_says_neither_yes_nor_no_is_refused(get, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "maybe")
    with pytest.raises(TlkitError, match="TLKIT_OFFLINE is 'maybe', expected 1 or 0"):
        get("ok")


def test_a_proxy_is_used_and_named_without_its_password(server, tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("http_proxy", f"http://me:secret@{place}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(TlkitError, match=rf"files\.example \(through the proxy {place}\) cannot be") as error:
            download(remote("http://files.example/a.bin", CONTENT), tmp_path / "a.bin", Silence(), HASTE)
    assert "secret" not in error.value.message


def test_what_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TlkitError, match="cannot be written"):
        download(remote(server.url("ok", "a.bin"), CONTENT), tmp_path / "file" / "a.bin", Silence(), HASTE)


@pytest.fixture
def https(server, tmp_path):
    """The server behind a certificate that nobody has signed; the file of the certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl program to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*make, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return certificate


@pytest.mark.parametrize("setting", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_certificate_is_trusted_where_a_setting_names_it(setting, https, server, tmp_path, monkeypatch):
    server.content["a.bin"] = CONTENT
    url = server.url("ok", "a.bin").replace("http:", "https:")
    with pytest.raises(TlkitError, match=r"a certificate that is not trusted here .*; SSL_CERT_FILE names"):
        download(remote(url, CONTENT), tmp_path / "a.bin", Silence(), HASTE)
    monkeypatch.setenv(setting, str(https))
    download(remote(url, CONTENT), tmp_path / "a.bin", Silence(), HASTE)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    monkeypatch.setenv(setting, str(tmp_path / "absent.pem"))
    with pytest.raises(TlkitError, match=f"{setting} is .*absent.pem', which does not exist"):
        download(remote(url, CONTENT), tmp_path / "b.bin", Silence(), HASTE)
