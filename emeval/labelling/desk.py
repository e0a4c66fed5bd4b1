"""What the page may ask for: who labels, the text of an answer, to keep a label. Nothing else leaves the run.

A reply holds texts and the rater's own labels. It never holds a model, a condition, a judge, a score, a
stratum, or what another rater said.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from emeval.errors import UserError
from emeval.gold import GoldLabel
from emeval.labelling.drawing import Drawing, Drawn
from emeval.labelling.store import Label, RaterFile, check_rater
from emeval.reporting.words import printable
from emeval.runs import now

LONGEST_NOTE = 4000
"""Characters of a note."""


class Refused(Exception):  # noqa: N818  # it is no fault of the program
    """A request that is not granted; the message is for the person in front of the page."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    rater: str


class Begin(_Request):
    """The page was opened; `rater` is empty where the page does not know who labels."""


class Ask(_Request):
    """The text of an answer, by its place in the order, from 0."""

    index: Annotated[int, Field(ge=0)]


class Give(Ask):
    """A label. `seen` is how many lines the rater's file had when the page was last told.

    A label that the page does not know of is so never replaced.
    """

    label: GoldLabel
    note: Annotated[str, Field(max_length=LONGEST_NOTE)]
    seen: int


class Desk:
    """Answers the page's requests; may be used by several threads."""

    def __init__(self, drawing: Drawing, run: Path, rater: str | None = None) -> None:
        self.drawing = drawing
        self.run = run
        self.rater = rater
        """Who labels, where the command says it; else the page asks."""
        self.lock = threading.Lock()

    def begin(self, asked: Begin) -> dict[str, Any]:
        """Return who labels (`None` if nobody says), and what they said before, in the order of the answers.

        Raises `Refused` for a name that cannot be one.
        """
        name = self.rater or asked.rater
        if not name:
            return {"rater": None}
        with self.lock:
            file = self._file(name)
            known = _labels(file)
            said = (known.get(one.answer) for one in self.drawing.answers)
            labels = [label.label if label else None for label in said]
            return {"rater": name, "labels": labels, "seen": len(file.lines())}

    def ask(self, asked: Ask) -> dict[str, Any]:
        """Return the text of an answer, and what the rater said of it before. Raises `Refused`."""
        with self.lock:
            one = self._answer(asked.index)
            said = _labels(self._file(asked.rater)).get(one.answer)
            return {
                "question": printable(one.question),
                "response": printable(one.response),
                "label": said.label if said else None,
                "note": said.note if said else "",
            }

    def give(self, asked: Give) -> dict[str, Any]:
        """Keep a label, and return what the page has now seen. Raises `Refused` if it was not kept."""
        with self.lock:
            one = self._answer(asked.index)
            file = self._file(asked.rater)
            if len(file.lines()) != asked.seen:
                raise Refused(
                    HTTPStatus.CONFLICT,
                    "Labels of this rater were made elsewhere meanwhile, in another tab perhaps. Reload this "
                    "page to go on with all of them.",
                )
            label = Label(
                **one.model_dump(), rater=file.rater, label=asked.label, note=asked.note, labelled=now()
            )
            try:
                file.add([label])
            except OSError as error:
                raise Refused(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    f"The disk said: {error.strerror}. Mend that, then press the key again.",
                ) from None
            return {"seen": asked.seen + 1}

    def _file(self, rater: str) -> RaterFile:
        if self.rater and rater != self.rater:
            raise Refused(HTTPStatus.FORBIDDEN, "This page is for another rater. Reload it.")
        try:
            return RaterFile(self.run, check_rater(rater, "The name"))
        except UserError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from None

    def _answer(self, index: int) -> Drawn:
        try:
            return self.drawing.answers[index]
        except IndexError:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such answer. Reload this page.") from None


def _labels(file: RaterFile) -> dict[str, Label]:
    try:
        return file.labels()
    except UserError:  # its message has the run's path, which may name a model
        raise Refused(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            f"The labels of {file.rater} cannot be read; emeval label RUN --agreement says why.",
        ) from None
