"""The process that takes one sample: ``python -m bench.sample CASE RESULT``, both written by `runner`.

Its ``__main__`` is imported again in every worker by ``spawn``, and by some pools in every worker; therefore nothing
is imported before `main` runs, and nothing else is done in this process.
"""

from __future__ import annotations

import json
import sys


def main(case_text: str, result_path: str) -> None:
    """Take the sample; write its value, or the error of the pool, to *result_path*."""
    from dataclasses import asdict
    from pathlib import Path

    from .measure import Case
    from .measures import MEASURES

    spec = json.loads(case_text)
    measure = MEASURES[spec.pop("measure")]
    case = Case(**spec)
    sampler = measure.baselines.get(case.contestant, measure.sample)
    try:
        result = asdict(sampler(case))
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        result = {"failure": f"fails: {type(error).__name__}"}
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
