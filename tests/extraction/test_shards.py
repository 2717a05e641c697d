"""A stored row is the one that was written under its key, or counts as missing: damage, old stores, power loss."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from tlkit.base import files
from tlkit.extraction import shards
from tlkit.extraction.shards import BARE, INDEX, MANY, VALUES, join_shards, list_shards, read_shard, write_shard
from tlkit.extraction.store import Appender, look_up, open_space

ROWS, WIDTH = 64, 50
POWER_CUTS = int(os.environ.get("TLKIT_POWER_CUTS", "3"))  # at each moment


def content(count=ROWS, seed=0):
    """Keys, and values that follow from their keys."""
    keys = np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)
    return keys, np.repeat(keys[:, :5].astype(np.float32), WIDTH // 5, axis=1)


@pytest.fixture
def space(empty_cache, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK_BYTES", 8 * WIDTH * 4)  # 8 rows to a block
    return open_space({"weights": "w", "output": "grid"})


def write_bare(folder, keys, values):
    """A shard in the format before checksums."""
    name = folder / os.urandom(8).hex()
    np.save(name.with_suffix(VALUES), values)
    keys.tofile(name.with_suffix(BARE))
    return name


def refuse_wrong(found, values):
    """Check that every existing row is the right one. Returns which exist."""
    there = np.flatnonzero(~found.lacking)
    if not len(there):
        return there
    np.testing.assert_array_equal(found[there], values[there])
    return there


def truncated(rng, path):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def emptied(rng, path):
    path.write_bytes(b"")


def zeros(rng, path):
    path.write_bytes(bytes(path.stat().st_size))


def flipped(rng, path):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def brackets(rng, path):
    path.write_bytes(b"[]")


def shuffled(rng, path):
    """Two parts of the file changed places."""
    old = path.read_bytes()
    middle = rng.randrange(1, len(old))
    path.write_bytes(old[middle:] + old[:middle])


def missing(rng, path):
    path.unlink()


DAMAGES = [truncated, emptied, zeros, flipped, brackets, shuffled, missing]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [INDEX, VALUES])
def test_a_damaged_shard_gives_no_wrong_row_and_ends_nothing(space, suffix, damage):
    keys, values = content()
    for seed in range(8):
        rng = random.Random(seed)
        shutil.rmtree(space.folder)
        space.folder.mkdir()
        space.damaged.clear()
        for start in range(0, ROWS, 16):
            write_shard(space.folder, keys[start : start + 16], values[start : start + 16])
        damage(rng, rng.choice(sorted(space.folder.glob(f"*{suffix}"))))
        there = refuse_wrong(look_up(space, keys), values)
        assert len(there) >= ROWS - 16
        there = refuse_wrong(look_up(space, keys), values)  # and from then on
        with Appender(space) as appender:
            lacking = np.setdiff1d(np.arange(ROWS), there)
            appender.append(keys[lacking], values[lacking])
        assert len(refuse_wrong(look_up(space, keys), values)) == ROWS


@pytest.mark.parametrize("damage", DAMAGES)
def test_joining_takes_no_damaged_row_along(space, damage):
    keys, values = content(MANY * 4)
    for start in range(0, len(keys), 4):
        write_shard(space.folder, keys[start : start + 4], values[start : start + 4])
    rng = random.Random(1)
    damage(rng, rng.choice(sorted(space.folder.glob(f"*{VALUES}"))))
    damage(rng, rng.choice(sorted(space.folder.glob(f"*{INDEX}"))))
    write_shard(space.folder, keys[:4], values[:4])
    write_shard(space.folder, keys[:4], values[:4])
    join_shards(space.folder)
    assert len(refuse_wrong(look_up(space, keys), values)) >= len(keys) - 8


def test_one_flipped_bit_costs_the_rows_of_its_block_alone(space):
    keys, values = content()
    write_shard(space.folder, keys, values)
    [path] = space.folder.glob("*.npy")
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    found = look_up(space, keys)
    assert found.lacking.sum() == 8 and found.lacking[-8:].all()
    assert space.damaged == {path.with_suffix(INDEX).name}


def test_rows_that_nobody_asks_for_are_not_read(space):
    keys, values = content()
    write_shard(space.folder, keys, values)
    [path] = space.folder.glob("*.npy")
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    assert not look_up(space, keys[:8]).lacking.any() and not space.damaged


def test_a_store_without_checksums_is_read_and_joined_into_one_with(space):
    keys, values = content(MANY * 4)
    for start in range(0, len(keys), 4):
        write_bare(space.folder, keys[start : start + 4], values[start : start + 4])
    assert len(refuse_wrong(look_up(space, keys), values)) == len(keys)
    join_shards(space.folder)
    [index] = list_shards(space.folder)
    assert index.suffix == INDEX and read_shard(index).sums is not None
    assert len(refuse_wrong(look_up(space, keys), values)) == len(keys)


@pytest.mark.parametrize("left", [0, 32, 3 * 32, 100])
def test_names_that_were_cut_do_not_shift_the_rows_of_others(space, left):
    keys, values = content(MANY * 4)
    names = [write_bare(space.folder, keys[i : i + 4], values[i : i + 4]) for i in range(0, len(keys), 4)]
    cut = names[3].with_suffix(BARE)
    cut.write_bytes(cut.read_bytes()[:left])
    write_bare(space.folder, keys[:4], values[:4])
    join_shards(space.folder)
    assert len(refuse_wrong(look_up(space, keys), values)) == len(keys) - 4


def test_bare_rows_of_another_shape_are_none_of_the_space(space):
    keys, values = content()
    write_shard(space.folder, keys[:8], values[:8])
    write_bare(space.folder, keys[8:], values[8:].reshape(len(keys) - 8, 5, -1))
    write_bare(space.folder, keys[8:], values[8:].astype(np.float64))
    assert len(refuse_wrong(look_up(space, keys), values)) == 8


def test_a_damaged_store_that_cannot_be_written_is_passed_over(space, monkeypatch):
    keys, values = content()
    write_shard(space.folder, keys, values)
    [path] = space.folder.glob("*.npy")
    truncated(random.Random(0), path)

    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert look_up(space, keys).lacking.all() and space.damaged


# -- Power loss: writes are replayed up to any point, with those not settled by fsync lost, torn or out of order


class Log:
    """The file-system calls of a program, in order."""

    def __init__(self, monkeypatch):
        self.events = []
        self.replace, self.unlink, self.fsync = Path.replace, Path.unlink, os.fsync
        log = self

        def replace(path, target):
            log.events.append(("rename", path, Path(target), path.read_bytes()))
            return log.replace(path, target)

        def unlink(path, missing_ok=False):
            if path.exists():
                log.events.append(("unlink", path))
            return log.unlink(path, missing_ok=missing_ok)

        def fsync(descriptor):
            log.events.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
            return log.fsync(descriptor)

        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr(Path, "unlink", unlink)
        monkeypatch.setattr(files.os, "fsync", fsync)

    def promise(self, keys):
        """These rows were reported as stored."""
        self.events.append(("promise", keys))

    def after_power_loss(self, cut, rng, folder):
        """Write to `folder` what a disk may hold after power loss at `cut` events. Returns the keys reported as stored."""
        settled, promised, pending, synced = {}, [], [], set()

        def apply(event):
            if event[0] == "rename":
                _, source, target, content = event
                settled[target.name] = (
                    content
                    if source in synced
                    else rng.choice([content, b"", bytes(len(content)), content[: rng.randrange(len(content))]])
                )
            elif not event[1].name.startswith(".tmp-"):
                settled.pop(event[1].name, None)

        for event in self.events[:cut]:
            if event[0] == "promise":
                promised.append(event[1])
            elif event[0] == "fsync" and event[1].suffix:
                synced.add(event[1])
            elif event[0] == "fsync":
                for waiting in pending:
                    apply(waiting)
                pending = []
            else:
                pending.append(event)
        for event in rng.sample(pending, rng.randint(0, len(pending))):
            apply(event)
        for name, content in settled.items():
            (folder / name).write_bytes(content)
        return promised


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="which file is synced cannot be told")
def test_power_lost_at_any_moment_loses_no_stored_row_and_makes_none_wrong(space, tmp_path, monkeypatch):
    keys, values = content(MANY * 3)
    log = Log(monkeypatch)
    with Appender(space) as appender:
        for start in range(0, len(keys), 3):
            appender.append(keys[start : start + 3], values[start : start + 3])
            appender.flush()
            log.promise(np.arange(start, start + 3))
    join_shards(space.folder)
    monkeypatch.undo()
    assert any(event[0] == "unlink" for event in log.events)  # joined
    tries = 0
    for cut in range(len(log.events) + 1):
        for seed in range(POWER_CUTS):
            folder = tmp_path / f"{cut}-{seed}"
            folder.mkdir()
            promised = log.after_power_loss(cut, random.Random(seed), folder)
            after = type(space)(folder, space.description, space.lease)
            there = refuse_wrong(look_up(after, keys), values)
            assert set(np.concatenate(promised).tolist() if promised else []) <= set(there.tolist())
            join_shards(folder)
            refuse_wrong(look_up(after, keys), values)
            shutil.rmtree(folder)
            tries += 1
    assert tries > 140 * POWER_CUTS
