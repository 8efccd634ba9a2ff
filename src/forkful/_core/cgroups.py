"""Where the control groups of this process are, and what their files say.  Linux; elsewhere there are none.

A process is in one group of each hierarchy: of version 1 (a hierarchy for each controller, or several) or 2 (one for all).
``/proc/self/cgroup`` has its path in each hierarchy, ``/proc/self/mountinfo`` where a hierarchy, or a part of it, can be
seen.  In a container the two often start from different roots.

Sources: cgroups(7), cgroup_namespaces(7), the kernel's admin-guide/cgroup-v1 and cgroup-v2.
"""

from __future__ import annotations

from collections.abc import Iterator


def read(path: str) -> str:
    """A small file of the kernel's; empty when there is none, or it may not be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def chain(controller: str) -> tuple[int, list[str]]:
    """The version of the hierarchy that has *controller*, and this process's group there and those above it."""
    return find(controller, read("/proc/self/cgroup"), read("/proc/self/mountinfo"))


def find(controller: str, groups: str, mounts: str) -> tuple[int, list[str]]:
    """`chain` for the texts of the two files; the folders are from the innermost out, none when there is no hierarchy."""
    paths: dict[str, str] = {}
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):  # none for version 2, and so the name is empty
            paths[name] = path
    for version, name, kind in ((1, controller, "cgroup"), (2, "", "cgroup2")):
        if name not in paths:
            continue
        for root, point, found, options in _mounts(mounts):
            if found == kind and (version == 2 or controller in options):
                return version, _upwards(point, _below(root, paths[name]))
    return 0, []


def _mounts(text: str) -> Iterator[tuple[str, str, str, list[str]]]:
    """Of each mount of control groups: what part of the hierarchy is seen, where, the file system, its options."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - cgroup")
        if separator:
            root, point = before.split(" ")[3:5]
            kind, _, options = after.split(" ", 2)
            yield _unescape(root), _unescape(point), f"cgroup{kind}", options.split(",")


def _unescape(path: str) -> str:
    if "\\" not in path:
        return path
    import re  # late: most paths have nothing to unescape

    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _below(root: str, path: str) -> str:
    """*path* as seen from *root*; a path that is not below it is one of another namespace, and then root is all we see."""
    if root == "/" and "/.." not in path:
        return path.rstrip("/")
    if path.startswith(f"{root}/"):
        return path[len(root) :]
    return ""


def _upwards(point: str, path: str) -> list[str]:
    folders = []
    while path:
        folders.append(point + path)
        path = path.rpartition("/")[0]
    return [*folders, point]


def parse_number(text: str, key: str) -> int | None:
    """The number after *key* in a file of ``key number`` lines."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == key and number.strip().isdecimal():
            return int(number)
    return None
