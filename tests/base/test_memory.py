from tlkit.base.machine import available_memory


def machine(tmp_path, available_kb=1000):
    path = tmp_path / "meminfo"
    path.write_text(f"MemTotal: 9000 kB\nMemAvailable: {available_kb} kB\n")
    return path


def test_the_machine_or_its_container_whichever_is_less(tmp_path):
    groups = tmp_path / "cgroup"
    groups.mkdir()
    assert available_memory(machine(tmp_path), groups) == 1000 * 1024
    (groups / "memory.max").write_text("max\n")
    (groups / "memory.current").write_text("700\n")
    assert available_memory(machine(tmp_path), groups) == 1000 * 1024
    (groups / "memory.max").write_text("1000\n")
    (groups / "memory.stat").write_text("active_file 5\ninactive_file 200\n")
    assert available_memory(machine(tmp_path), groups) == 1000 - 700 + 200


def test_where_nobody_says_it_is_unknown(tmp_path):
    assert available_memory(tmp_path / "none", tmp_path / "none") is None
