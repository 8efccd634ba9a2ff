"""Prints the tables of states as Mermaid diagrams; called by scripts/docs."""

from __future__ import annotations

from forkful._core.state import TASK, WORKER, draw

for heading, table in (("A worker", WORKER), ("A task", TASK)):
    print(f"## {heading}\n\n```mermaid\n{draw(table)}\n```\n")  # noqa: T201  # printing is this program's work
