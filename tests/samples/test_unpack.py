"""Archives that try to write outside their folder, and damaged archives."""

import io
import tarfile
import zipfile

import pytest

from tests.misbehaving import png, tar_of, tree, zip_of
from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence
from tlkit.samples.fetch import unpack


@pytest.fixture
def run(tmp_path):
    def unpacked(content: bytes, name: str = "a.zip", budget: int = 1 << 20, wanted=lambda name: True) -> list[str]:
        (tmp_path / name).write_bytes(content)
        folder = tmp_path / "inside"
        folder.mkdir()
        unpack(tmp_path / name, folder, wanted, budget, Silence())
        return tree(folder)

    return unpacked


FILES = {"root/a/1.png": png(1), "root/b c/ü.png": png(2), "root/note.txt": b"hello"}


@pytest.mark.parametrize(
    "pack", [zip_of, tar_of, lambda files: tar_of(files, "w"), lambda files: tar_of(files, "w:xz")]
)
def test_every_packing_is_read_whatever_its_name(run, pack):
    assert run(pack(FILES), "archive.bin") == sorted(FILES)


def test_only_what_is_wanted_is_written(run):
    assert run(zip_of(FILES), wanted=lambda name: name.endswith(".png")) == ["root/a/1.png", "root/b c/ü.png"]


def test_what_desktops_leave_behind_is_left_out(run):
    junk = {"__MACOSX/root/._1.png": b"", "root/.DS_Store": b"", "root/Thumbs.db": b"", ".git/config": b""}
    assert run(tar_of({"./root/1.png": png(1)} | junk)) == ["root/1.png"]


@pytest.mark.parametrize(
    "name", ["../out.png", "root/../../out.png", "/etc/out.png", "C:/out.png", "root\\..\\out.png", "a\x07.png"]
)
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_a_path_that_leads_out_is_refused(run, tmp_path, pack, name):
    with pytest.raises(TlkitError, match="could land outside"):
        run(pack({"ok.png": png(1), name: b"evil"}))
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "inside"}


def test_a_link_in_a_zip_is_refused(run):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(TlkitError, match="has a link named 'link'"):
        run(buffer.getvalue())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_anything_but_a_plain_file_in_a_tar_is_refused(run, kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("odd")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(TlkitError, match="not a plain file"):
        run(buffer.getvalue())


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_a_bomb_stops_at_the_budget(run, tmp_path, pack):
    with pytest.raises(TlkitError, match="far more than it should"):
        run(pack({"zeros.png": bytes(50 << 20)}), budget=3 << 20)
    assert sum(path.stat().st_size for path in (tmp_path / "inside").rglob("*")) <= 4 << 20


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_a_damaged_archive_is_said_to_be_damaged(run, pack, damage):
    whole = pack({f"{i}.png": png(i) for i in range(20)})
    flipped = whole[:500] + bytes(byte ^ 255 for byte in whole[500:600]) + whole[600:]
    broken = {"cut": whole[: len(whole) // 2], "flipped": flipped, "text": b"<html>no</html>"}[damage]
    with pytest.raises(TlkitError, match=r"a\.zip is damaged"):
        run(broken)
