"""Prints the tables of states as Mermaid diagrams; called by scripts/docs."""

from __future__ import annotations

from forkful._core.moves import TASK, WORKER


def draw(table: dict[tuple[str, str], str]) -> str:
    """*table* as a Mermaid state diagram."""
    edges: dict[tuple[str, str], list[str]] = {}
    for (state, what), after in table.items():
        edges.setdefault((state, after), []).append(what)
    lines = [f"    {state} --> {after}: {', '.join(whats)}" for (state, after), whats in edges.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {next(iter(table))[0]}", *lines])


for heading, table in (("A worker", WORKER), ("A task", TASK)):
    print(f"## {heading}\n\n```mermaid\n{draw(table)}\n```\n")  # noqa: T201  # printing is this program's work
