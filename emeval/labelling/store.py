"""Labels on disk: a file for each rater, to which lines are added and from which none is ever taken.

`RUN/labels/RATER.jsonl` has one JSON object a line with the columns of a gold file. The last line of an
answer is what counts; the ones before show what was said first. A line is on the disk before the page is told
that it is saved. A last line that is cut (the power failed while it was written) was never told as saved, and
is taken away when the next one is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from emeval.definitions import Name
from emeval.errors import UserError
from emeval.gold import GoldLabel

FOLDER = "labels"

_NAME: TypeAdapter[str] = TypeAdapter(Name)


class Label(BaseModel):
    """What a rater says of an answer; the fields are `emeval.gold.COLUMNS`."""

    model_config = ConfigDict(extra="forbid")

    answer: str
    question: str
    response: str
    rater: str
    label: GoldLabel
    note: str = ""
    labelled: str
    stratum: str | None = None
    stratum_size: int | None = None


def check_rater(name: str, where: str = "--rater") -> str:
    """Return the name of a rater as it is. Raises `UserError` if it cannot be one: it names a file."""
    try:
        return _NAME.validate_python(name)
    except ValidationError:
        raise UserError(
            f"{where}: found {name!r}, expected a name of lower-case letters, digits, _ and -, e.g. rater-1"
        ) from None


class RaterFile:
    """The labels of one rater in one run."""

    def __init__(self, run: Path, rater: str) -> None:
        self.path = run / FOLDER / f"{rater}.jsonl"
        self.rater = rater

    def lines(self) -> list[bytes]:
        """Return the whole lines of the file, none if there is no file."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        return content[: content.rfind(b"\n") + 1].splitlines()

    def labels(self) -> dict[str, Label]:
        """Return the label of each answer that has one, by the answer's id, in the order of first labels.

        Raises `UserError` for a line that cannot be read.
        """
        found: dict[str, Label] = {}
        for number, line in enumerate(self.lines(), 1):
            try:
                label = Label.model_validate_json(line)
            except ValidationError as error:
                said = error.errors()[0]["msg"]
                raise UserError(
                    f"{self.path}:{number}: this is no label ({said}); mend or delete the line"
                ) from None
            found[label.answer] = label
        return found

    def add(self, labels: Sequence[Label]) -> None:
        """Write labels at the end of the file, and wait until they are on the disk. Raises `OSError`."""
        new = not self.path.is_file()
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(b"".join(label.model_dump_json().encode() + b"\n" for label in labels))
            file.flush()
            os.fsync(file.fileno())
        if new and hasattr(os, "O_DIRECTORY"):  # the name of a new file is kept by its folder
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)


def raters(run: Path) -> list[RaterFile]:
    """Return the files of all raters of a run, by name."""
    return [RaterFile(run, path.stem) for path in sorted((run / FOLDER).glob("[!.]*.jsonl"))]
