"""What stands beside an output, in ``OUT.job``: which function wrote it, and how.

An output holds nothing but records, one for each input; so what ``--resume`` must know besides stands here, as JSON: the
function and the content of its file, what names inputs, and how the last run ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forkful.apps.functions import FunctionRef
from forkful.apps.problems import UsageProblem

from .output import beside

__all__ = ["JobFile", "Program", "check_same", "job_path", "read_job", "write_job"]


def job_path(output: str) -> str:
    """The file beside *output*."""
    return f"{os.path.realpath(output)}.job"


@dataclass(frozen=True)
class Program:
    """A function, and the file that it is from.

    Attributes:
        name: the function, without its file.
        file: the file's path; None for a builtin.
        digest: of the file's content, SHA-256; None where it cannot be read.
    """

    name: str
    file: str | None
    digest: str | None

    @classmethod
    def of(cls, function: FunctionRef | Callable[..., Any]) -> Program:
        """What *function* is, found by its text alone."""
        if isinstance(function, FunctionRef):
            name, file = function.attribute, function.file
        else:
            name = getattr(function, "__qualname__", type(function).__qualname__)
            try:
                file = inspect.getsourcefile(inspect.unwrap(function))
            except TypeError:  # a builtin, or an object
                file = getattr(inspect.getmodule(type(function)), "__file__", None)
        return cls(name, file, None if file is None else _digest(file))

    def difference(self, then: Program) -> str | None:
        """Why this is not what it was *then*; None if it is."""
        if self.name != then.name:
            return f"the function was {then.name!r}, and is {self.name!r} now"
        if self.digest != then.digest:
            return f"{self.file or then.file} has changed since"
        return None


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # in an archive
        return None


@dataclass
class JobFile:
    """A job, as its file tells of it.

    Attributes:
        function: what is called.
        init: what each worker calls first; None if nothing.
        by_keyword: whether fields are arguments.
        id_field: what names inputs; None: their content.
        inputs: the files, as they were named.
        seed: of what was chosen by chance, given or not, so that the next run chooses the same; None where nothing was.
        total: how many inputs; None where nobody has counted them.
        begun: when its first run began, in seconds since the epoch.
        state: ``running``, ``done``, ``interrupted``, ``halted`` or ``stopped``.  A run that was killed left ``running``.
        pid: of the process that runs it, or did so last.
    """

    function: Program
    init: Program | None
    by_keyword: bool
    id_field: str | None
    inputs: list[str]
    seed: int | None = None
    total: int | None = None
    begun: float = dataclasses.field(default_factory=time.time)
    state: str = "running"
    pid: int = dataclasses.field(default_factory=os.getpid)


def write_job(output: str, job: JobFile, begin: Callable[[], None] | None = None) -> None:
    """Write the file beside *output*, whole or not at all.  Raises OSError.

    *begin*: what is to be done just before it takes its place, when nothing is left that is likely to fail.
    """
    path = job_path(output)
    try:
        with open(beside(path), "w", encoding="ascii") as file:
            json.dump(dataclasses.asdict(job), file, indent=1)
            file.write("\n")
        if begin is not None:
            begin()
        os.replace(beside(path), path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside(path))
        raise


def read_job(output: str) -> JobFile | None:
    """What stands beside *output*; None if nothing does.  Raises `UsageProblem` for what is no such file."""
    path = job_path(output)
    try:
        with open(path, encoding="utf-8") as file:
            held = json.load(file)
        held["function"] = Program(**held["function"])
        held["init"] = None if held["init"] is None else Program(**held["init"])
        return _checked(JobFile(**held))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageProblem(f"{path}: cannot be read: {error.strerror}; change its mode") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise UsageProblem(f"{path}: does not describe a job; remove it, and go on with --resume --force") from error


def _checked(job: JobFile) -> JobFile:
    """Raises TypeError, ValueError or OverflowError for what nobody here has written."""
    texts = [job.state, *job.inputs, *(text for text in (job.id_field, job.function.file, job.function.digest) if text)]
    numbers = [job.pid, *(number for number in (job.seed, job.total) if number is not None)]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(number, int) for number in numbers):
        raise TypeError
    time.localtime(job.begun)
    return job


def check_same(output: str, then: JobFile | None, now: JobFile, *, force: bool = False) -> None:
    """Raises `UsageProblem` unless what is to be done *now* is what was done *then*: its records would not match.

    With *force*, only where nothing would be found again.
    """
    if then is not None and then.id_field != now.id_field:
        how = "the content of inputs" if then.id_field is None else f"--id-field {then.id_field}"
        raise UsageProblem(f"{output}: its ids are made from {how}; say the same, or --overwrite it")
    if force:
        return
    if then is None:
        raise UsageProblem(
            f"{output}: there is no {os.path.basename(job_path(output))} beside it, which would tell what wrote it; "
            f"--force takes it for this job's"
        )
    difference = now.function.difference(then.function)
    if difference is None and (then.init is not None or now.init is not None):
        if then.init is None or now.init is None:
            difference = "it was begun with --init" if now.init is None else "it was begun without --init"
        else:
            difference = now.init.difference(then.init)
    if difference is None and then.by_keyword != now.by_keyword:
        difference = "it was begun with --kwargs" if then.by_keyword else "it was begun without --kwargs"
    if difference is not None:
        raise UsageProblem(
            f"{output}: cannot be resumed: {difference}; --force goes on all the same, --overwrite begins anew"
        )
