"""How far a job is, or how it ended: read from its files, while it runs or afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from forkful.apps.problems import UsageProblem

from .jobfile import JobFile, read_job
from .output import is_being_written, look_back

__all__ = ["Status", "read_status"]


@dataclass
class Status:
    """What is known of the job that writes an output.

    Attributes:
        output: the file.
        running: whether a run has it open.
        done, failed: records, and those of them that are failures.
        kinds: how many failures there are by type of error.
        job: what stands beside the output; None if nothing does.
    """

    output: str
    running: bool
    done: int = 0
    failed: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    job: JobFile | None = None

    @property
    def state(self) -> str:
        """``running``, ``done``, ``interrupted``, ``halted``, ``stopped``; ``killed`` where nobody could note how it ended."""
        if self.running:
            return "running"
        if self.job is None:
            return "not known"
        return "killed" if self.job.state == "running" else self.job.state


def _kind(line: bytes) -> str:
    """The type of a failure."""
    try:
        return str(json.loads(line)["error"]["type"])
    except (ValueError, TypeError, KeyError, RecursionError):  # not as we write it
        return "unknown"


def read_status(output: str) -> Status:
    """Look at *output* and what stands beside it; changes nothing.  Raises `UsageProblem`."""
    try:
        status = Status(output, is_being_written(output), job=read_job(output))
        with open(output, "rb") as file:
            for entry in look_back(output):
                status.done += 1
                if not entry.ok:
                    status.failed += 1
                    file.seek(entry.start)
                    kind = _kind(file.read(entry.end - entry.start))
                    status.kinds[kind] = status.kinds.get(kind, 0) + 1
    except OSError as error:
        raise UsageProblem(f"{output}: cannot be read: {error.strerror}; name the output of a job") from error
    return status
