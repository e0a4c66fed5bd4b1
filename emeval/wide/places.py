"""Where shards lie while they are worked on: in the run directory, or in a store that all machines reach."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from emeval import journal
from emeval.errors import UserError, reason
from emeval.manifest import FILE

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

EVERY = 60.0
"""Seconds between two copies of a journal, at least; copying takes at most a tenth of the time."""


class Place(Protocol):
    """Where shards lie; it can be sent to another machine."""

    def put(self, path: Path) -> None:
        """Bring a shard there from the run directory, unless it is there."""
        ...

    def hand(self, path: Path, console: Console) -> AbstractContextManager[Path]:
        """Give a worker the shard of the run directory that lay in `path`, in a folder to work in."""
        ...

    def get(self, path: Path) -> None:
        """Bring a shard back into the run directory."""
        ...

    def clear(self) -> None:
        """Forget all shards."""
        ...


class InRun:
    """Shards lie in the run directory itself, on a disk that all machines see under the same path."""

    def put(self, path: Path) -> None:
        """See `Place`: it is there."""

    @contextmanager
    def hand(self, path: Path, console: Console) -> Iterator[Path]:
        """See `Place`. Raises `UserError` where this machine does not see it."""
        del console
        if not (path / FILE).is_file():
            raise UserError(
                f"this machine does not see {path}; put --out on a disk that all machines share, "
                "or name a store with --shared, for example --shared s3://BUCKET/emeval"
            )
        yield path

    def get(self, path: Path) -> None:
        """See `Place`: it is there."""

    def clear(self) -> None:
        """See `Place`: they go with the run directory's."""


@dataclass(frozen=True)
class Store:
    """Shards lie in a store, at a URL of fsspec (`s3://bucket/folder`); a worker has a copy on its own disk.

    The copy's journal is copied up while it is worked on, so that a worker that dies loses what it obtained
    since the last time; that alone is asked again.
    """

    url: str
    every: float = EVERY

    def put(self, path: Path) -> None:
        """See `Place`. What is there is newer than what the run directory has."""
        files, root = self._open()
        there = f"{root}/{path.name}"
        if not files.exists(f"{there}/{FILE}"):
            _up(files, path, there)

    @contextmanager
    def hand(self, path: Path, console: Console) -> Iterator[Path]:
        """See `Place`."""
        files, root = self._open()
        there = f"{root}/{path.name}"
        with tempfile.TemporaryDirectory(prefix="emeval-") as folder:
            here = Path(folder) / path.name
            _down(files, there, here)
            over = threading.Event()
            copying = threading.Thread(target=self._copy, args=(files, here, there, over, console))
            copying.start()
            try:
                yield here
            finally:
                over.set()
                copying.join()
                _up(files, here, there)

    def get(self, path: Path) -> None:
        """See `Place`."""
        files, root = self._open()
        draft = path.with_name(f".{path.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        _down(files, f"{root}/{path.name}", draft)
        shutil.rmtree(path)
        draft.replace(path)

    def clear(self) -> None:
        """See `Place`."""
        files, root = self._open()
        if files.exists(root):
            files.rm(root, recursive=True)

    def _copy(
        self, files: AbstractFileSystem, here: Path, there: str, over: threading.Event, console: Console
    ) -> None:
        """Copy the journal of a shard up, again and again, until `over`."""
        pause, copy = self.every, here.with_name(journal.FILE)
        while not over.wait(pause):
            began = time.monotonic()
            keeper = journal.opened(here / journal.FILE)
            try:
                if keeper:
                    copy.unlink(missing_ok=True)
                    keeper.copy_to(copy)
                    _put(files, copy, f"{there}/{journal.FILE}")
            except Exception as error:  # of the store, or of a journal that was closed meanwhile
                console.print(f"the journal was not copied: {reason(error)}; tried again", highlight=False)
            pause = max(self.every, 10 * (time.monotonic() - began))

    def _open(self) -> tuple[AbstractFileSystem, str]:
        """Return the store and the path in it. Raises `UserError`."""
        from fsspec.core import url_to_fs

        try:
            files, root = url_to_fs(self.url)
            files.invalidate_cache()  # what other machines wrote is to be seen
            files.makedirs(root, exist_ok=True)
        except Exception as error:  # whatever a store raises: a driver that is missing, a refused key
            raise UserError(f"--shared {self.url}: cannot be written: {reason(error)}") from None
        return files, root


def _up(files: AbstractFileSystem, here: Path, there: str) -> None:
    """Copy a folder up, each file whole or not at all; the manifest, which says what is there, last."""
    paths = [path for path in here.rglob("*") if path.is_file() and not path.name.endswith("-wal")]
    for path in sorted(paths, key=lambda path: path.name == FILE):
        _put(files, path, f"{there}/{path.relative_to(here).as_posix()}")


def _put(files: AbstractFileSystem, path: Path, there: str) -> None:
    files.makedirs(there.rpartition("/")[0], exist_ok=True)
    files.put_file(str(path), f"{there}.part")
    files.mv(f"{there}.part", there)


def _down(files: AbstractFileSystem, there: str, here: Path) -> None:
    for found in files.find(there):
        if not found.endswith(".part"):
            path = here / found.removeprefix(there).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(found, str(path))
