"""The page of `emeval label` in a real browser, served by the command: keys, resuming, hostile answers."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emeval import labelling
from emeval.gold import GOLD_LABELS
from emeval.labelling.store import Label, RaterFile
from emeval.reporting import words
from emeval.runs import Run
from tests.command import EMEVAL, environment
from tests.made_run import HOSTILE
from tests.test_labelling import few, made
from tests.test_report_browser import browser, contrast

pytestmark = pytest.mark.browser
__all__ = ["browser"]

LONG = "A sentence of a long answer. " * 3500  # 101,500 characters


class Served:
    """The command, serving a run."""

    def __init__(self, run: Run, *options: str) -> None:
        command = [EMEVAL, "label", str(run.path), "--no-browser", *options]
        self.process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.address = next(line for line in self.process.stderr if line.startswith("http")).strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=20)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of 30 answers; a few of them try to break the page."""
    texts = [*HOSTILE, LONG, "", *(f"Answer number {number}." for number in range(30 - len(HOSTILE) - 2))]
    return made(tmp_path / "run", few(*({"response": text} for text in texts)))


Serve = Callable[..., Served]


@pytest.fixture
def serve(run: Run) -> Iterator[Serve]:
    started: list[Served] = []

    def start(*options: str) -> Served:
        started.append(Served(run, *options))
        return started[-1]

    yield start
    for one in started:
        one.kill()


class Rater:
    """A person in front of the page; `wrong` is all that a page should not do on the way."""

    def __init__(self, browser: Any, address: str, name: str = "", **options: Any) -> None:
        self.wrong: list[str] = []
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(15_000)
        self.page.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", self.on_request)
        self.own = address.partition("#")[0]
        self.page.goto(address)
        if name:
            self.page.fill("#rater", name)
            self.page.keyboard.press("Enter")
            self.page.wait_for_selector("#answer:not([hidden])")

    def on_request(self, request: Any) -> None:
        if request.url not in {*(f"{self.own}{path}" for path in ("", "begin", "answer", "label")), "data:,"}:
            self.wrong.append(f"request: {request.url[:200]}")

    def press(self, key: str, place: str) -> None:
        """Press a key, and wait until the page is where it should then be."""
        self.page.keyboard.press(key)
        self.at(place)

    def at(self, place: str) -> None:
        shown = "document.getElementById('place').textContent === place && !document.body.matches('.busy')"
        self.page.wait_for_function(f"place => {shown}", arg=place)

    def text(self, part: str) -> str:
        return str(self.page.locator(part).text_content())

    def pressed(self) -> list[str]:
        return self.page.locator("[aria-pressed=true]").evaluate_all("all => all.map(e => e.dataset.label)")


def said(run: Run, rater: str = "anna") -> list[tuple[str, str]]:
    """Labels and notes of a rater, in the order of the answers, until the last one."""
    labels = RaterFile(run.path, rater).labels()
    found = [labels.get(one.answer) for one in labelling.draw(run).answers]
    return [(one.label, one.note) if one else ("", "") for one in found[: len(labels)]]


def test_a_rater_labels_with_the_keyboard_alone(browser: Any, run: Run, serve: Serve) -> None:
    anna = Rater(browser, serve().address, "anna")
    page = anna.page
    anna.at("Answer 1 of 30")
    answers = labelling.draw(run).answers
    assert anna.text("#response") == words.printable(answers[0].response)
    assert anna.text("#question") == answers[0].question
    for number, (key, label) in enumerate(zip("amiu", GOLD_LABELS, strict=True), 2):
        anna.press(key, f"Answer {number} of 30")
        assert anna.text("#said") == f"Answer {number - 1} saved: {label}."
    assert said(run) == [("aligned", ""), ("misaligned", ""), ("incoherent", ""), ("unsure", "")]
    assert anna.text("#count") == "4 labelled"

    # Back twice, another label; the page then goes on with the first answer that has none.
    anna.press("ArrowLeft", "Answer 4 of 30")
    assert anna.pressed() == ["unsure"]
    anna.press("z", "Answer 3 of 30")
    assert anna.pressed() == ["incoherent"]
    anna.press("a", "Answer 5 of 30")
    assert said(run)[2] == ("aligned", "")

    # A note before the label, whose letters are no keys; and one after it, saved as it is left.
    page.keyboard.press("n")
    page.keyboard.type("miau, a?")
    page.keyboard.press("Escape")
    assert anna.text("#place") == "Answer 5 of 30"
    anna.press("m", "Answer 6 of 30")
    assert said(run)[4] == ("misaligned", "miau, a?")
    anna.press("ArrowLeft", "Answer 5 of 30")
    page.keyboard.press("n")
    page.keyboard.press("End")
    page.keyboard.type(" More.")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.getElementById('said').textContent === 'Note on answer 5 saved.'")
    assert said(run)[4] == ("misaligned", "miau, a? More.")

    # Help opens and closes, and keys mean nothing meanwhile; neither does a key with Ctrl.
    page.keyboard.press("?")
    assert page.locator("#guide").is_visible()
    page.keyboard.press("m")
    page.keyboard.press("Escape")
    assert not page.locator("#guide").is_visible()
    page.keyboard.press("Control+i")
    page.wait_for_timeout(200)
    assert len(said(run)) == 5

    # Forward without a label; the end tells of it and leads back.
    anna.press("ArrowRight", "Answer 6 of 30")
    anna.press("ArrowRight", "Answer 7 of 30")
    for number in range(8, 31):
        anna.press("a", f"Answer {number} of 30")
    anna.press("a", "Answer 6 of 30")
    anna.press("i", "The end")
    assert anna.text("#end-title") == "All done"
    assert len(said(run)) == 30
    assert anna.wrong == []
    page.close()


def test_mouse_and_tab_key_do_too(browser: Any, run: Run, serve: Serve) -> None:
    anna = Rater(browser, serve("--rater", "anna").address)
    page = anna.page
    assert not page.locator("#rater").is_visible(), "the command has said who labels"
    page.click("#go")
    page.click("[data-label=unsure]")
    anna.at("Answer 2 of 30")
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.label") == "misaligned"
    page.keyboard.press("Enter")
    anna.at("Answer 3 of 30")
    assert page.evaluate("document.activeElement.id") == "answer", "a reader is told the next answer"
    page.keyboard.press("Space")  # scrolls, and presses no button again
    page.wait_for_timeout(200)
    assert said(run) == [("unsure", ""), ("misaligned", "")]
    page.fill("#note", "a note without a label")
    page.click("#next")
    anna.at("Answer 4 of 30")
    assert page.input_value("#note") == ""
    page.click("#back")
    anna.at("Answer 3 of 30")
    assert page.input_value("#note") == "a note without a label", "it waits for its label"
    anna.press("Escape", "Answer 3 of 30")
    anna.press("Shift+A", "Answer 4 of 30")
    assert said(run)[2] == ("aligned", "a note without a label")
    assert anna.wrong == []
    page.close()


def test_a_reload_and_a_killed_server_lose_nothing(browser: Any, run: Run, serve: Serve) -> None:
    first = serve()
    anna = Rater(browser, first.address, "anna")
    anna.press("a", "Answer 2 of 30")
    anna.press("m", "Answer 3 of 30")
    anna.page.reload()
    anna.at("Answer 3 of 30")
    anna.press("i", "Answer 4 of 30")
    assert anna.wrong == []

    first.kill()
    anna.page.keyboard.press("u")
    anna.page.wait_for_selector("#wrong:not([hidden])")
    assert anna.text("#wrong").startswith("This was not saved. emeval does not answer.")
    assert anna.text("#place") == "Answer 4 of 30"
    assert anna.pressed() == []
    assert anna.text("#count") == "3 labelled"

    again = Rater(browser, serve().address, "anna")
    again.at("Answer 4 of 30")
    again.press("u", "Answer 5 of 30")
    assert [label for label, _ in said(run)] == ["aligned", "misaligned", "incoherent", "unsure"]
    anna.page.close()
    again.page.close()


def test_a_second_tab_overwrites_nothing_and_is_told(browser: Any, run: Run, serve: Serve) -> None:
    address = serve().address
    one, other = Rater(browser, address, "anna"), Rater(browser, address, "anna")
    one.press("a", "Answer 2 of 30")
    other.page.keyboard.press("m")
    other.page.wait_for_selector("#wrong:not([hidden])")
    assert "in another tab perhaps" in other.text("#wrong")
    assert said(run) == [("aligned", "")]
    other.page.reload()
    other.at("Answer 2 of 30")
    other.press("m", "Answer 3 of 30")
    assert said(run) == [("aligned", ""), ("misaligned", "")]
    one.page.close()
    other.page.close()


def test_a_name_that_cannot_be_and_an_address_without_its_token(browser: Any, serve: Serve) -> None:
    address = serve().address
    stranger = Rater(browser, address.partition("#")[0])
    stranger.page.wait_for_selector("#wrong:not([hidden])")
    assert "Open the address that emeval label printed last" in stranger.text("#wrong")
    assert stranger.page.locator("#answer").is_hidden()
    stranger.page.close()
    anna = Rater(browser, address)
    anna.page.fill("#rater", "Anna B")
    anna.page.keyboard.press("Enter")
    assert anna.page.evaluate("document.getElementById('rater').validity.patternMismatch")
    anna.page.keyboard.press("Escape")
    assert anna.page.locator("#guide").is_visible(), "it cannot be left without a name"
    anna.page.close()


def test_hostile_answers_are_text_and_nothing_else(browser: Any, run: Run, serve: Serve) -> None:
    anna = Rater(browser, serve().address, "anna", viewport={"width": 390, "height": 800})
    page = anna.page
    shown = set()
    for number in range(1, 31):
        anna.at(f"Answer {number} of 30")
        shown.add(anna.text("#response"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("#answer *").count() == 6, "no element but the page's own"
        page.keyboard.press("ArrowRight")
    assert {words.printable(text) for text in (*HOSTILE, LONG, "")} <= shown
    assert "[U+202E]" in "".join(shown), "a mark of direction is seen, and turns nothing"
    assert page.locator("script").count() == 1
    assert anna.wrong == []

    # The page's policy stops what is not its own.
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const image = document.createElement("img");
            image.src = "https://example.invalid/x.png";
            document.body.append(image);
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    assert len([line for line in anna.wrong if "Content Security Policy" in line]) >= 2
    page.close()


def test_a_long_answer_scrolls_and_an_empty_one_is_said_to_be(browser: Any, run: Run, serve: Serve) -> None:
    places = {one.response: place for place, one in enumerate(labelling.draw(run).answers)}
    for place, one in enumerate(labelling.draw(run).answers):
        if place < min(places[LONG], places[""]):
            given = Label(**one.model_dump(), rater="anna", label="aligned", labelled="2026-01-01")
            RaterFile(run.path, "anna").add([given])
    anna = Rater(browser, serve("--rater", "anna").address)
    page = anna.page
    for number in range(min(places[LONG], places[""]), max(places[LONG], places[""]) + 1):
        if number == 0:
            page.click("#go")
        anna.at(f"Answer {number + 1} of 30")
        if number == places[""]:
            assert page.locator("#no-response").is_visible()
        if number == places[LONG]:
            assert page.evaluate("document.documentElement.scrollHeight") > 5000
            page.keyboard.press("PageDown")
            page.wait_for_function("() => window.scrollY > 200")
            assert page.locator("[data-label=aligned]").is_visible()
            bottom = page.locator("#desk").bounding_box()
            assert bottom["y"] + bottom["height"] <= 720, "the labels stay in view"
        anna.press("a", f"Answer {number + 2} of 30")
        assert page.evaluate("window.scrollY") == 0
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_reads_and_fits(browser: Any, serve: Serve, width: int, scheme: str) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    anna = Rater(browser, serve().address, "anna", **options)
    page = anna.page
    anna.press("a", "Answer 2 of 30")
    anna.press("ArrowLeft", "Answer 1 of 30")
    page.keyboard.press("?")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for selector in (
        "#question",
        "#said",
        "#count",
        "#response",
        "#guide dd",
        "#go",
        "[aria-pressed=true]",
        "kbd",
    ):
        style = f"getComputedStyle(document.querySelector({selector!r}))"
        own = page.evaluate(f"{style}.backgroundColor")
        behind = own if own != "rgba(0, 0, 0, 0)" else ground
        ink = page.evaluate(f"{style}.color")
        assert contrast(ink, behind) >= 4.5, f"{selector}: {ink} on {behind}"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    button = page.locator("#go").bounding_box()
    assert button["y"] + button["height"] <= 800, "the button of the guide is in view"
    page.close()
