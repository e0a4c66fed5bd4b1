"""One adapter at a time on the embedded server: who is let in, when, and that nobody waits for ever."""

from __future__ import annotations

import anyio
import pytest

from emeval.models.turns import Slots, Turns, turns


async def ask(turns: Turns, key: str, log: list[str], seconds: float = 0.01) -> None:
    async with turns.turn(key):
        log.append(f"+{key}")
        await anyio.sleep(seconds)
        log.append(f"-{key}")


def running_together(log: list[str]) -> set[frozenset[str]]:
    """The sets of keys that were inside at the same time."""
    inside: list[str] = []
    seen = set()
    for entry in log:
        inside.append(entry[1:]) if entry[0] == "+" else inside.remove(entry[1:])
        seen.add(frozenset(inside))
    return seen


def test_one_key_at_a_time_and_many_of_it() -> None:
    log: list[str] = []

    async def main() -> None:
        shared = Turns()
        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(ask, shared, "abc"[number % 3], log)

    anyio.run(main)
    assert len(log) == 60
    assert running_together(log) == {frozenset(), frozenset("a"), frozenset("b"), frozenset("c")}
    # All ten of a key were inside together: two changes of turn for thirty requests.
    keys = [entry[1:] for entry in log if entry[0] == "+"]
    assert keys == ["a"] * 10 + ["b"] * 10 + ["c"] * 10


def test_who_waited_longest_comes_next() -> None:
    log: list[str] = []

    async def main() -> None:
        shared = Turns()
        async with anyio.create_task_group() as group:
            for key in ("a", "c", "b", "c"):
                group.start_soon(ask, shared, key, log)
                await anyio.sleep(0)

    anyio.run(main)
    assert [entry for entry in log if entry[0] == "+"] == ["+a", "+c", "+c", "+b"]


def test_who_gives_up_waiting_blocks_nobody() -> None:
    log: list[str] = []

    async def main() -> None:
        shared, done = Turns(), anyio.Event()

        async def hold() -> None:
            async with shared.turn("a"):
                await done.wait()

        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.01) as waited:
                await ask(shared, "b", log)
            assert waited.cancelled_caught
            group.start_soon(ask, shared, "c", log)
            await anyio.wait_all_tasks_blocked()
            done.set()

    anyio.run(main)
    assert log == ["+c", "-c"]


def test_an_error_inside_ends_the_turn() -> None:
    async def main() -> list[str]:
        shared, log = Turns(), list[str]()
        with pytest.raises(ZeroDivisionError):
            async with shared.turn("a"):
                raise ZeroDivisionError
        with anyio.fail_after(2):
            await ask(shared, "b", log)
        return log

    assert anyio.run(main) == ["+b", "-b"]


def test_every_event_loop_has_turns_of_its_own() -> None:
    async def main() -> Turns:
        assert turns("one") is turns("one")
        assert turns("one") is not turns("other")
        return turns("one")

    assert anyio.run(main) is not anyio.run(main)


def test_a_slot_has_one_holder_at_a_time() -> None:
    held: list[int] = []

    async def hold(slots: Slots) -> None:
        async with slots.one() as slot:
            assert slot not in held
            held.append(slot)
            await anyio.sleep(0.01)
            held.remove(slot)

    async def main() -> None:
        slots = Slots(2)
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(hold, slots)
        async with slots.one() as first, slots.one() as second:
            assert {first, second} == {0, 1}
            with anyio.move_on_after(0.02) as waited:
                await hold(slots)
            assert waited.cancelled_caught, "there is no third"

    anyio.run(main)
