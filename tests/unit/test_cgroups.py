"""Where control groups are, told by texts such as the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkful._core import cgroups, oom

V1_GROUPS = """\
12:cpu,cpuacct:/jobs/7
4:memory:/jobs/7/inner
3:name=systemd:/init.scope
"""
V1_MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
"""
V2_GROUPS = "0::/user.slice/user-1000.slice/session-3.scope\n"
V2_MOUNTS = "24 22 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID_MOUNTS = V1_MOUNTS + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"

TOP = "/sys/fs/cgroup"


@pytest.mark.parametrize(
    ("controller", "groups", "mounts", "expected"),
    [
        pytest.param("cpu", V1_GROUPS, V1_MOUNTS, (1, [f"{TOP}/cpu,cpuacct{p}" for p in ("/jobs/7", "/jobs", "")]), id="v1"),
        pytest.param(
            "memory", V1_GROUPS, V1_MOUNTS, (1, [f"{TOP}/memory{p}" for p in ("/jobs/7/inner", "/jobs/7", "/jobs", "")]),
            id="v1 deeper",
        ),
        pytest.param(
            "memory", V2_GROUPS, V2_MOUNTS,
            (2, [TOP + p for p in (
                "/user.slice/user-1000.slice/session-3.scope", "/user.slice/user-1000.slice", "/user.slice", "")]),
            id="v2",
        ),
        pytest.param("cpu", V1_GROUPS + "0::/x\n", HYBRID_MOUNTS, (1, [f"{TOP}/cpu,cpuacct{p}" for p in ("/jobs/7", "/jobs", "")]), id="hybrid, a controller of v1"),
        pytest.param("io", V1_GROUPS + "0::/x\n", HYBRID_MOUNTS, (2, [f"{TOP}/unified/x", f"{TOP}/unified"]), id="hybrid, a controller of v2"),
        pytest.param("cpu", "0::/\n", V2_MOUNTS, (2, [TOP]), id="in a namespace"),
        pytest.param("cpu", "0::/../other\n", V2_MOUNTS, (2, [TOP]), id="moved out of the namespace"),
        pytest.param(
            "memory", "4:memory:/docker/abc\n", "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            (1, [f"{TOP}/memory"]), id="in a container that sees its part only",
        ),
        pytest.param(
            "memory", "4:memory:/docker/abc/job\n", "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            (1, [f"{TOP}/memory/job", f"{TOP}/memory"]), id="deeper in such a container",
        ),
        pytest.param(
            "memory", "4:memory:/docker/abc\n", "35 31 0:32 /docker/xyz /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            (1, [f"{TOP}/memory"]), id="of another namespace",
        ),
        pytest.param("cpu", "0::/a:b\n", r"24 22 0:22 / /mnt/c\040g rw - cgroup2 none rw" + "\n", (2, ["/mnt/c g/a:b", "/mnt/c g"]), id="odd names"),
        pytest.param("cpu", V1_GROUPS, V2_MOUNTS, (0, []), id="not mounted"),
        pytest.param("cpu", "", "", (0, []), id="no control groups"),
    ],
)  # fmt: skip  # a case a line, as far as it goes
def test_find(controller: str, groups: str, mounts: str, expected: tuple[int, list[str]]) -> None:
    """The group of each hierarchy, and those above it."""
    assert cgroups.find(controller, groups, mounts) == expected


def test_numbers_by_key() -> None:
    """In the files of both versions."""
    assert cgroups.parse_number("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill") == 3
    assert cgroups.parse_number("low 0\nhigh 0\nmax 17\noom 2\noom_kill 1\noom_group_kill 9\n", "oom_kill") == 1
    assert cgroups.parse_number("oom_kill_disable 0\nunder_oom 0\n", "oom_kill") is None
    assert cgroups.parse_number("oom_kill many\n", "oom_kill") is None
    assert cgroups.parse_number("", "oom_kill") is None


def test_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    """No file, or a folder."""
    assert cgroups.read(str(tmp_path / "none")) == cgroups.read(str(tmp_path)) == ""


# The count of kills.


@pytest.mark.parametrize("version", [1, 2])
def test_count_of_the_group(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its own group, not of those above."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    for folder, number in ((inner, 3), (outer, 8)):
        folder.mkdir()
        (folder / ("memory.events" if version == 2 else "memory.oom_control")).write_text(f"oom_kill {number}\n")
    monkeypatch.setattr(cgroups, "chain", lambda _: (version, [str(inner), str(outer)]))
    assert oom.count() == 3


def test_count_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no group counts, as at the top of version 2."""
    texts = {"/proc/vmstat": "nr_free_pages 100\noom_kill 12\n"}
    monkeypatch.setattr(cgroups, "read", lambda path: texts.get(path, ""))
    monkeypatch.setattr(cgroups, "chain", lambda _: (2, [str(tmp_path)]))
    assert oom.count() == 12
    monkeypatch.setattr(cgroups, "chain", lambda _: (0, []))
    assert oom.count() == 12
    texts.clear()
    assert oom.count() is None


def test_each_kill_explains_one_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what came before the pool none."""
    counted: list[int | None] = [5]
    monkeypatch.setattr(oom, "count", lambda: counted[0])
    oom.begin()
    assert oom.claim() is False
    counted[0] = 7
    assert [oom.claim() for _ in range(3)] == [True, True, False]
    counted[0] = 9
    oom.begin()
    assert oom.claim() is False
    counted[0] = None
    assert oom.claim() is None
    oom.begin()
    counted[0] = 10
    assert oom.claim() is None
