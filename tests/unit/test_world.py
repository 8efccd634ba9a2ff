"""Random lives of a pool in a simulated world: whatever happens, each element ends once, and nothing is left over."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkful._core.limits import Limits

from .world import MS, World

ACTIONS = (
    *["submit"] * 5, *["turn"] * 4, *["time"] * 2, "die", "crash", "cancel", "cancel kill", "hire", "resize", "bad starts", "terminate",
)  # fmt: skip  # the shares on one line


@settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    processes=st.integers(1, 3),
    tasks_per_child=st.sampled_from([None, None, 1, 3]),
    threads=st.sampled_from([1, 1, 2, 3]),
    elastic=st.tuples(
        st.sampled_from([0, 0, 1]), st.sampled_from([None, None, 5 * MS]), st.sampled_from([None, None, 4])
    ),
    auto=st.booleans(),
    script=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 12)), max_size=40),
)
def test_every_element_ends_once(
    seed: int,
    processes: int,
    tasks_per_child: int | None,
    threads: int,
    elastic: tuple[int, int | None, int | None],
    auto: bool,
    script: list[tuple[str, int]],
) -> None:
    """Deaths, recalls, time-outs, cancels, failing starts: the promises of the pool hold, checked at every step."""
    least, idle, memory = elastic
    limits = Limits(
        processes, tasks_per_child, least=least, threads=threads, auto=auto and threads > 1, memory=memory, idle=idle
    )
    world = World(Random(seed), limits)
    for action, number in script:
        play(world, action, number)
    world.settle()
    world.check_rest()
    world.close()
    world.settle()
    assert world.state.seats == {}
    assert not world.state.busy()


def play(world: World, action: str, number: int) -> None:
    """One line of the script."""
    if action == "submit":
        world.submit(number)
    elif action == "time":
        world.pass_time(number * 2 * MS)
    elif action == "turn":
        world.turn()
    elif action == "die":
        world.kill_some()
    elif action == "crash":
        world.kill_some(1)
    elif action.startswith("cancel"):
        world.cancel(kill=action == "cancel kill")
    elif action == "hire":
        world.hire(number)
    elif action == "resize":
        world.resize(number % 3 if number % 3 <= number % 4 else 0, max(1, number % 4))
    elif action == "bad starts":
        world.fail_starts(number % 5)
    else:
        world.terminate()
