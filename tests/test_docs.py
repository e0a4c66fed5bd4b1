"""The documentation says what is so: commands, links, names, columns and recipes are those of the code."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from emeval import responses
from emeval.cli import app
from emeval.definitions import Evaluation, Judge, Settings, Suite
from emeval.library import files
from emeval.prepared import parse_settings, prepare, settings_from
from emeval.runs import plan
from tests.conftest import Project
from tests.test_imports import ROOMS

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own-project"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

STANDS_FOR = {"M": "local/smollm2", "J": "openai/gpt-4o"}
"""What is written in a command line for whatever the reader has."""


class Line(NamedTuple):
    """A command line in a page."""

    page: str
    number: int
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.page}:{self.number}: {self.text}"


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def fenced(page: Path, language: str = "") -> Iterator[tuple[int, str]]:
    """The blocks of code of `page` in `language`, each with the number of its first line."""
    text = text_of(page)
    for block in FENCED.finditer(text):
        if block[1] == language:
            yield text.count("\n", 0, block.start(2)) + 1, block[2]


def lines(page: Path, program: str) -> Iterator[Line]:
    """The command lines of `program` in the blocks and in the code spans of `page`."""
    name = page.relative_to(ROOT).as_posix()
    start = re.compile(rf"(?:\S*/)?{program}(?: |$)")
    for first, block in fenced(page):
        joined = re.sub(r"\\\n\s*", lambda gap: " " * len(gap[0]), block)
        for number, text in enumerate(joined.splitlines(), first):
            if start.match(text):
                yield Line(name, number, text)
    prose = FENCED.sub(lambda block: "\n" * block[0].count("\n"), text_of(page))
    for number, row in enumerate(prose.splitlines(), 1):
        for span in re.findall(r"`([^`]+)`", row):
            if start.match(span):
                yield Line(name, number, span)


def all_lines(program: str) -> list[Line]:
    return [line for page in PAGES for line in lines(page, program)]


EMEVAL = all_lines("emeval")
INSPECT = [
    line
    for line in all_lines("inspect")
    if line.words[1] == "eval" and len(line.words) > 2 and not line.words[2].startswith("inspect_evals/")
]
RUNS = [line for line in EMEVAL if line.words[1:2] == ["run"] and "--model" in line.words]


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def wrong(line: Line) -> str | None:
    """What is wrong with a command line of emeval's; nothing if all of it exists."""
    _, *words = line.words
    long = [word.partition("=")[0] for word in words if re.match(r"--\w", word)]
    if not words or words[0].startswith("-"):
        known = options(typer.main.get_command(app))
    elif words[0] in COMMANDS:
        known = options(COMMANDS[words[0]])
    else:
        return f"no command {words[0]!r}"
    return next((f"no option {word}" for word in long if word not in known), None)


def test_there_are_command_lines_to_check() -> None:
    pages = {line.page for line in EMEVAL}
    assert {"README.md", "CONTRIBUTING.md", "docs/judges.md", "docs/runs.md", "docs/models.md"} <= pages
    assert len(RUNS) >= 10
    assert {word for line in EMEVAL for word in line.words[1:2]} >= set(COMMANDS) - {"demo"}


@pytest.mark.parametrize("line", EMEVAL, ids=str)
def test_a_command_line_names_commands_and_options_that_exist(line: Line) -> None:
    assert wrong(line) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("emeval rnu free_form", "no command 'rnu'"),
        ("emeval run free_form --modle M", "no option --modle"),
        ("emeval --versoin", "no option --versoin"),
        ("emeval run free_form --model M  # --modle", None),
        ("emeval --version", None),
    ],
)
def test_a_wrong_command_line_would_be_found(text: str, fault: str | None) -> None:
    assert wrong(Line("page", 1, text)) == fault


@pytest.mark.parametrize("line", RUNS, ids=str)
def test_a_run_that_is_shown_can_be_planned(
    line: Line, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its evaluations, judges, triggers and settings exist: shipped, in the example or in a recipe."""
    if line.page.startswith("examples"):
        monkeypatch.chdir(EXAMPLE)
    write_recipes(project)
    write_recipes(project, ROOT / line.page)
    # The paper's own file is not ours to have here: one of its form.
    entry = "{id: a, type: free_form_judge_0_100, paraphrases: [b?], judge_prompts: {aligned: '{answer}'}}"
    project.write("first_plot_questions.yaml", f"- {entry}\n")
    words = [STANDS_FOR.get(word, word) for word in line.words[2:]]
    given = COMMANDS["run"].make_context("run", words).params
    counts = {key: given[key] for key in ("samples", "limit", "seed") if given[key] is not None}
    settings = settings_from(given["set_"] or []) | counts
    what = plan(
        given["evaluations"] or [],
        given["models"],
        given["judges"] or [],
        settings,
        questions=given["questions"] or [],
    )
    assert what.size


@pytest.mark.parametrize("line", INSPECT, ids=str)
def test_a_task_that_is_shown_under_inspect_exists(line: Line) -> None:
    name = line.words[2].removeprefix("emeval/")
    pairs = [value for option, value in zip(line.words, line.words[1:], strict=False) if option == "-T"]
    roles = [
        value for option, value in zip(line.words, line.words[1:], strict=False) if option == "--model-role"
    ]
    assert prepare(name, parse_settings(dict(settings_from(pairs)), name)).size
    assert {role.partition("=")[0] for role in roles} <= {"judge", *files(Judge)}


def slugs(page: Path) -> set[str]:
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = [
    (page, target)
    for page in PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    if not target.startswith(("http:", "https:", "mailto:"))
]


@pytest.mark.parametrize(
    ("page", "target"), LINKS, ids=[f"{page.relative_to(ROOT)}: {target}" for page, target in LINKS]
)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    assert there.is_relative_to(ROOT)
    assert there.is_file()
    assert not anchor or anchor in slugs(there)


def test_the_readme_shows_the_report() -> None:
    assert (ROOT / "README.md", "docs/images/report.png") in LINKS


def test_the_index_names_every_page_or_the_index_of_its_folder() -> None:
    docs = ROOT / "docs"
    named = {
        (page.parent / target.partition("#")[0]).resolve()
        for page, target in LINKS
        if page.name == "index.md"
    }
    assert set(docs.rglob("*.md")) - {docs / "index.md"} <= named


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    shown = {line.words[1] for line in all_lines("make")}
    assert {"demo", "demo-full", "test", "check"} <= shown <= targets


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table after `heading`, each cell without its backticks."""
    _, _, rest = text_of(ROOT / page).partition(f"\n## {heading}\n")
    table = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert table, f"{page}: no table under {heading!r}"
    return [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in table[0].splitlines()[2:]]


def test_the_page_of_runs_shows_every_column_in_order() -> None:
    shown = [(name, kind) for name, kind, _ in rows("docs/runs.md", "The response table")]
    assert shown == [(name, str(kind)) for name, kind in responses.schema(["NAME"], ["MEASURE"]).items()]


def test_the_page_of_runs_shows_every_setting() -> None:
    names = [name for row in rows("docs/runs.md", "Where a run is written") for name in row[0].split("`, `")]
    assert sorted(names) == sorted(Settings.model_fields)


def test_the_page_of_judges_shows_every_key() -> None:
    shown = {name: default for name, _, default in rows("docs/judges.md", "A judge's file")}
    assert shown == {
        name: "required" if field.is_required() else str(field.default or "none")
        for name, field in Judge.model_fields.items()
    }


def test_the_rooms_of_the_engine_are_in_the_order_that_is_tested() -> None:
    block = next(block for _, block in fenced(ROOT / "CONTRIBUTING.md") if "<" in block)
    assert tuple(block.split()[::2]) == ROOMS


def write_recipes(project: Project, page: Path = ROOT / "CONTRIBUTING.md") -> list[str]:
    """Write the files of the recipes of a page into the project; each begins with a comment that names it."""
    paths = []
    for _, block in fenced(page, "yaml"):
        if path := re.match(r"# (\S+\.yaml)\n", block):
            paths.append(path[1])
            project.write(paths[-1], block)
    return paths


def test_the_recipes_are_a_judge_an_evaluation_and_a_trigger(project: Project) -> None:
    folders = [path.rpartition("/")[0] for path in write_recipes(project)]
    assert folders == ["judges", "datasets/questions", "evals", "datasets/triggers"]
    assert prepare("kitchen", Settings()).size
    assert prepare("backdoor", Settings(trigger="weather", judges=["politeness"])).size


def test_the_example_has_a_file_of_each_kind_and_its_evaluation_can_be_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(EXAMPLE)
    own = {
        path.relative_to(EXAMPLE).as_posix() for path in EXAMPLE.rglob("*.yaml") if "runs" not in path.parts
    }
    assert own == {
        "evals/at_work.yaml",
        "datasets/questions/at_work.yaml",
        "datasets/triggers/reference_number.yaml",
        "judges/honesty.yaml",
    }
    prepared = prepare("at_work", Settings())
    assert prepared.cue is not None
    assert prepared.cue.name == "reference_number"
    assert list(prepared.judges) == ["alignment", "coherence", "honesty"]


PYTHON = [(page, first, block) for page in PAGES for first, block in fenced(page, "python")]


@pytest.mark.parametrize(
    "block", [block for *_, block in PYTHON], ids=[f"{page.name}:{first}" for page, first, _ in PYTHON]
)
def test_the_python_that_is_shown_calls_what_there_is(block: str) -> None:
    tree = ast.parse(block)
    imports: list[ast.stmt] = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    known: dict[str, Any] = {}
    exec(compile(ast.Module(imports, type_ignores=[]), "imports", "exec"), known)
    called = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (function := resolved(node.func, known)):
            named = {keyword.arg or "": keyword.value for keyword in node.keywords}
            inspect.signature(function).bind(*node.args, **named)
            called += 1
    assert called


def resolved(node: ast.expr, known: dict[str, Any]) -> Callable[..., Any] | None:
    """What `a.b.c` is, if `a` is known. Raises `AttributeError` if it has no such part."""
    if isinstance(node, ast.Attribute):
        owner = resolved(node.value, known)
        return None if owner is None else getattr(owner, node.attr)
    return known.get(node.id) if isinstance(node, ast.Name) else None


def test_evaluations_and_suites_that_are_shipped_are_run_in_some_page() -> None:
    run = {word for line in RUNS for word in line.words}
    assert set(files(Evaluation)) | set(files(Suite)) - {"demo", "demo_full"} <= run
