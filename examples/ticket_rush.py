"""Ten people, one ticket: what a lock is for.  Each buyer is a process; the stock is a JSON file, ``{"count": 1}``.

    python examples/ticket_rush.py             with the lock: one buys it, nine are told that it is gone
    python examples/ticket_rush.py --unsafe    without: several look, see one ticket, pay, and each "gets" it

What goes wrong without a lock is the time between looking and writing: while one pays, the others see the same ticket.
With ``SharedJSON`` nobody looks before the one in front has paid and written, or has died and changed nothing.

Exit code: 0 when no more was sold than there was, and always with ``--unsafe``, whose point is to show the opposite;
1 when it was oversold all the same, or a buyer failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from multiprocessing import Barrier, Process
from pathlib import Path
from typing import Any

from forkful.locks import SharedJSON

BOUGHT, SOLD_OUT = 0, 3  # exit codes of a buyer


def buy(buyer: int, stock: Path, start: Any, pay: float, *, unsafe: bool) -> None:
    """One buyer's whole life: wait for the doors to open, try to buy, say how it went."""
    start.wait()
    if unsafe:
        doc = json.loads(stock.read_text())
        bought = take_one(doc, pay)
        if bought:
            stock.write_text(json.dumps(doc))
    else:
        with SharedJSON(stock) as doc:
            bought = take_one(doc, pay)
    # With its newline, in one piece: ten write to the same place.
    sys.stdout.write(f"  buyer {buyer:>2} {'bought a ticket' if bought else 'found none left'}\n")
    sys.stdout.flush()
    sys.exit(BOUGHT if bought else SOLD_OUT)


def take_one(doc: dict[str, int], pay: float) -> bool:
    """Take a ticket out of the stock, if there is one; whether there was."""
    if doc["count"] < 1:
        return False
    time.sleep(pay)
    doc["count"] -= 1
    return True


def rush(buyers: int, tickets: int, pay: float, *, unsafe: bool) -> int:
    """Let them all in at once, and count; the exit code."""
    with tempfile.TemporaryDirectory() as directory:
        stock = Path(directory, "stock.json")
        stock.write_text(json.dumps({"count": tickets}))
        print(f"{buyers} buyers, {tickets} ticket(s), {'no lock' if unsafe else 'a lock'}:", flush=True)
        start = Barrier(buyers)
        crowd = [Process(target=buy, args=(n + 1, stock, start, pay), kwargs={"unsafe": unsafe}) for n in range(buyers)]
        for process in crowd:
            process.start()
        for process in crowd:
            process.join()
        left = json.loads(stock.read_text())["count"]
    codes = [process.exitcode for process in crowd]
    sold = codes.count(BOUGHT)
    failed = buyers - sold - codes.count(SOLD_OUT)
    verdict = f"OVERSOLD by {sold - tickets}" if sold > tickets else "not one too many"
    print(f"{sold} sold of {tickets}, the file says {left} left: {verdict}")
    if failed:
        print(f"{failed} buyer(s) failed; what they said is above")
    return 1 if failed or (sold > tickets and not unsafe) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Ten processes race for one ticket.")
    parser.add_argument("--unsafe", action="store_true", help="do not lock the file: see it oversold")
    parser.add_argument("--buyers", type=int, default=10, metavar="N")
    parser.add_argument("--tickets", type=int, default=1, metavar="N")
    parser.add_argument("--pay", type=float, default=0.2, metavar="S", help="seconds that a buyer takes to pay")
    options = parser.parse_args()
    return rush(options.buyers, options.tickets, options.pay, unsafe=options.unsafe)


if __name__ == "__main__":
    sys.exit(main())
