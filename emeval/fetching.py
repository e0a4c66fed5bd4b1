"""Public question sets that lie elsewhere: which there are, and fetching one when a user asks for it.

`datasets/sources.yaml` names them, the user's before the shipped one. A file is fetched piece by piece, so
that a download that broke off goes on, and is there only when its SHA-256 is the one that the registry names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx

from emeval import library
from emeval.definitions import PublicSet, Sources
from emeval.errors import UserError, unknown

FOLDER = Path("datasets") / "published"
"""Where files come to, below the working directory."""

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""


class _BrokenOffError(Exception):
    """The connection ended before the file did."""


def sources() -> dict[str, PublicSet]:
    """Return the public sets by name. Raises `UserError` for a registry that cannot be read."""
    found: dict[str, PublicSet] = {}
    for folder in library.folders("datasets"):
        path = folder / "sources.yaml"
        if path.is_file():
            found = library.read(Sources, path).sets | found
    return dict(sorted(found.items()))


def fetch(name: str, folder: Path | None = None) -> Path:
    """Fetch the public set `name` into `folder`, by default `FOLDER`; return the file.

    A file that is there already is checked and not fetched again. What is there of a download that broke off
    (`FILE.part`) is gone on with, if the server can; otherwise it is begun anew. Raises `UserError`: an
    unknown name, no connection, an error of the server, or a file that is not the one of the registry.
    """
    known = sources()
    if name not in known:
        raise unknown("public set", name, known)
    wanted = known[name]
    path = (folder or FOLDER) / _file_name(name, wanted.address)
    if path.exists():
        if _sha256(path) != wanted.sha256:
            raise UserError(
                f"{path}: is there, and is not the file that {name} names (its SHA-256 is another); "
                "move it away, or name another --out"
            )
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    resumed = part.exists() and part.stat().st_size > 0
    _download(wanted, part)
    if _sha256(part) != wanted.sha256 and resumed:  # the beginning may have been of another version
        part.unlink()
        _download(wanted, part)
    found = _sha256(part)
    if found != wanted.sha256:
        part.unlink()
        raise UserError(
            f"{wanted.address}: the file has the SHA-256 {found}, and {name} is to have {wanted.sha256}: it "
            "was changed there; nothing was kept"
        )
    part.replace(path)
    return path


def _file_name(name: str, address: str) -> str:
    return f"{name}{PurePosixPath(urlsplit(address).path).suffix}"


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _download(wanted: PublicSet, part: Path) -> None:
    """Bring `part` to its full length; as long as every try brings something, a broken connection is tried
    again. Raises `UserError`.
    """
    while True:
        before = part.stat().st_size if part.exists() else 0
        if before == wanted.bytes:
            return
        if before > wanted.bytes:
            part.unlink()
            before = 0
        try:
            _more(wanted, part, before)
        except httpx.HTTPStatusError as error:
            raise UserError(
                f"{wanted.address}: the server said {error.response.status_code} "
                f"({error.response.reason_phrase or 'no reason'})"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, _BrokenOffError) as error:
            there = part.stat().st_size if part.exists() else 0
            if there > before:
                continue
            kept = f"; {there:,} of {wanted.bytes:,} bytes are there, and" if there else ";"
            raise UserError(
                f"{wanted.address}: {' '.join(str(error).split()) or type(error).__name__}{kept} the same "
                "command tries again"
            ) from None


def _more(wanted: PublicSet, part: Path, there: int) -> None:
    """Fetch what is missing of a file of which so many bytes are `there`."""
    # As it lies on the server, not packed: the bytes of a range are counted there.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    with httpx.stream("GET", wanted.address, headers=headers, follow_redirects=True, timeout=TIMEOUT) as said:
        if said.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()  # what is there is of a file that was longer
            raise _BrokenOffError("the file there has become shorter")
        said.raise_for_status()
        goes_on = said.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        if there and not (said.status_code == httpx.codes.PARTIAL_CONTENT and goes_on):
            there = 0  # a server that cannot go on sends it all
        with part.open("ab" if there else "wb") as content:
            for piece in said.iter_raw():
                there += len(piece)
                if there > wanted.bytes:
                    raise UserError(
                        f"{wanted.address}: the file is longer than the {wanted.bytes:,} bytes that it is to "
                        "have: it was changed there"
                    )
                content.write(piece)
    if there < wanted.bytes:
        raise _BrokenOffError("the connection broke off")
