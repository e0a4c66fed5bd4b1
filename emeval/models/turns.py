"""Taking turns: one adapter at a time on a server that holds several.

llama.cpp puts only requests with the same adapters into one batch. Asked for several at once it works on a
few of its slots while the others wait. A vLLM server may put them into one batch and mix them up
(`emeval.models.apart`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import anyio
from anyio.lowlevel import RunVar


class Turns:
    """Whose turn it is: one key's for as long as its requests come, then that of who has waited longest.

    Whoever waits is let in eventually, since requests end: an evaluation has finitely many.
    """

    def __init__(self) -> None:
        self._key: Hashable = None
        self._running = 0
        self._waiting: deque[tuple[Hashable, anyio.Event]] = deque()

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait until requests of `key` are let in, and hold the turn inside the block."""
        if self._running and key != self._key:
            entry = (key, anyio.Event())
            self._waiting.append(entry)
            try:
                await entry[1].wait()
            except BaseException:
                if entry in self._waiting:
                    self._waiting.remove(entry)
                else:  # let in just now, and stopped all the same
                    self._leave()
                raise
        else:
            self._key = key
            self._running += 1
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._running -= 1
        if self._running or not self._waiting:
            return
        self._key = self._waiting[0][0]
        for entry in [entry for entry in self._waiting if entry[0] == self._key]:
            self._waiting.remove(entry)
            self._running += 1
            entry[1].set()


class Slots:
    """Who has which slot of a server to itself."""

    def __init__(self, number: int) -> None:
        self._free = list(range(number))
        self._some = anyio.Semaphore(number)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[int]:
        """Wait until a slot is free, and hold it inside the block."""
        async with self._some:
            slot = self._free.pop()
            try:
                yield slot
            finally:
                self._free.append(slot)


_TURNS: RunVar[dict[str, Turns]] = RunVar("turns")


def turns(server: str) -> Turns:
    """Return the turns at a server in the running event loop; `server` is any name that is its own."""
    try:
        known = _TURNS.get()
    except LookupError:
        known = {}
        _TURNS.set(known)
    return known.setdefault(server, Turns())


_SLOTS: RunVar[Slots] = RunVar("slots")


def slots(number: int) -> Slots:
    """Return the slots of the running event loop."""
    try:
        return _SLOTS.get()
    except LookupError:
        _SLOTS.set(Slots(number))
        return _SLOTS.get()
