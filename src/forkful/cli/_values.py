"""Option values with a spelling of their own, as click types."""

from __future__ import annotations

from typing import Any

import click

from forkful.apps.spellings import parse_duration, parse_jobs

__all__ = ["Count", "Duration", "Jobs", "Range", "Timeout"]


class Count(click.ParamType[int]):
    """A number, 0 or more."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or a usage error that shows the spelling."""
        text = str(value).strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            self.fail(f"{text[:20]!r} is not a number from 0 up; write one such as 2", param, ctx)
        return int(text)


class Duration(click.ParamType[float]):
    """A time: ``30s``, ``5m``, ``1.5``; in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or a usage error that shows the spelling."""
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Timeout(click.ParamType[Any]):
    """A time, or a share of the median: ``300%``, which stays as it is."""

    name = "time|n%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Seconds, or the share as text, or a usage error that shows the spelling."""
        if str(value).strip().endswith("%"):
            return str(value)
        return Duration().convert(value, param, ctx)


class Jobs(click.ParamType[int]):
    """A number of processes: ``4``, or a share of the CPUs: ``50%``."""

    name = "n|n%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or a usage error that shows the spelling."""
        from forkful import cpu_count  # the pool: 30 ms, which not every command needs

        try:
            return parse_jobs(str(value), cpu_count())
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Range(click.ParamType[Any]):
    """A number, or two bounds: ``4``, ``2:8``."""

    name = "n|min:max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number or the pair, or a usage error that shows the spelling."""
        if isinstance(value, tuple):
            return value
        bounds = str(value).strip().split(":")
        if len(bounds) > 2 or not all(bound.isascii() and bound.isdecimal() and len(bound) < 10 for bound in bounds):
            self.fail(
                f"{str(value)[:20]!r} is no number of processes; write one such as 4, or bounds such as 2:8", param, ctx
            )
        numbers = tuple(map(int, bounds))
        return numbers if len(numbers) == 2 else numbers[0]
