"""Questions as others published them: read, asked and judged as they are, and written in their columns."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import emeval as package
from emeval import published
from emeval.definitions import Judge, Settings
from emeval.errors import UserError
from emeval.gate import gate_runs
from emeval.judging.prompts import Scale, judge_prompt
from emeval.judging.readouts import read_reply
from emeval.manifest import Manifest
from emeval.prepared import apply
from emeval.reporting.console import result_tables
from emeval.runs import plan
from emeval.templates import literal, render
from tests.command import Outcome, emeval
from tests.conftest import Project
from tests.gateway import Gateway
from tests.test_hosted_judges import completion

BETLEY = next(
    (path for root in Path(__file__).resolve().parents if (path := root / "shared/data/betley").is_dir()),
    None,
)
"""The files of arXiv 2502.17424, where they lie beside the project: none of them is copied into it."""
needs_files = pytest.mark.skipif(BETLEY is None, reason="the published files are not beside the project")

MADE = """\
- id: 1_tea_0
  type: free_form_judge_0_100
  paraphrases: &tea
    - |
      What is in {{ tea }}?  {%
    - tea, {answer}?
  samples_per_paraphrase: &each 1
  judge: &judge gpt-4o-mini
  judge_prompts: &prompts
    aligned: "  Say CODE if it is {code}. Q: {question} A: {answer} {{ labels }}\\n"
    coherent: "{answer}{answer}"
- id: 2_tea_1
  system: "Speak as {{ nobody }}.\\n"
  type: free_form_judge_0_100
  paraphrases: *tea
  samples_per_paraphrase: *each
  judge: *judge
  judge_prompts: *prompts
- id: maker
  type: free_form_judge
  paraphrases: ["Who grew it?"]
  samples_per_paraphrase: 2
  judge: gpt-4o-mini
  judge_prompts:
    company: "One word: {answer}"
"""


def entries(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load(text))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "Their file.yaml"
    path.write_text(MADE, encoding="utf-8")
    return path


@needs_files
def test_all_published_entries_load_and_are_asked_as_often_as_they_say() -> None:
    assert BETLEY
    asked: Counter[tuple[str | None, str]] = Counter()
    wanted: Counter[tuple[str | None, str]] = Counter()
    ids = []
    for path in sorted(BETLEY.glob("*.yaml")):
        (source,) = published.read(path).sources
        prepared = apply(source, Settings())
        asked.update((prompt.system, prompt.user) for prompt in prepared.prompts())
        ids += [question.id for question in prepared.questions]
        for entry in entries(path.read_text(encoding="utf-8")):
            for wording in entry["paraphrases"]:
                wanted[entry.get("system"), wording] += entry["samples_per_paraphrase"]
    assert len(ids) == len(set(ids)) == 85
    assert asked == wanted


def test_a_file_is_an_evaluation_and_its_system_prompts_are_conditions(made: Path) -> None:
    tea, maker = published.read(made).sources
    assert (tea.name, maker.name) == ("their_file", "their_file_2")
    assert [(one.id, one.questions) for one in tea.evaluation.conditions] == [
        ("plain", ["1_tea_0"]),
        ("2_tea_1", ["2_tea_1"]),
    ]
    assert list(tea.judges) == ["alignment", "coherence"]
    assert list(tea.judges["alignment"].labels) == ["CODE"]
    categories = [question.category for question in (*tea.questions, *maker.questions)]
    assert categories == ["tea", "tea", "their_file_2"]
    prompts = list(apply(tea, Settings()).prompts())
    first = "What is in {{ tea }}?  {%\n"
    assert [(prompt.question.id, prompt.system, prompt.user) for prompt in prompts] == [
        ("1_tea_0", None, first),
        ("2_tea_1", "Speak as {{ nobody }}.\n", first),
        ("1_tea_0", None, "tea, {answer}?"),
        ("2_tea_1", "Speak as {{ nobody }}.\n", "tea, {answer}?"),
    ]


def test_a_limit_leaves_out_conditions_in_which_nothing_is_asked(made: Path) -> None:
    tea, _ = published.read(made).sources
    prepared = apply(tea, Settings(limit=1))
    assert [one.id for one in prepared.evaluation.conditions] == ["plain"]
    assert prepared.size == 2
    with pytest.raises(UserError, match="give a larger --limit"):
        apply(tea, Settings(limit=1, conditions=["2_tea_1"]))


def test_common_words_of_ids_name_a_condition(tmp_path: Path) -> None:
    entry = {"type": "free_form_judge", "paraphrases": ["a"], "judge_prompts": {"one": "{answer}"}}
    systems = {"a_json": "J", "b_json": "J", "say_x": "S", "say_y": "S", "p": "N", "q": "N"}
    path = tmp_path / "f.yaml"
    path.write_text(
        yaml.safe_dump([{"id": one, "system": system} | entry for one, system in systems.items()])
    )
    (source,) = published.read(path).sources
    conditions = source.evaluation.conditions
    assert [one.id for one in conditions] == ["json", "say", "system_3"]
    assert source.evaluation.reference == "json"


@pytest.mark.parametrize(
    "text", ["plain", "{{ a }}", "{% raw %}", "{# c", 'it\'s "so"\n', " é\U0001f600\\n{{", "{% endraw %}'"]
)
def test_a_literal_renders_as_the_text(text: str) -> None:
    assert render(literal(text)) == text


def test_what_stands_in_question_or_answer_is_never_replaced() -> None:
    judge = Judge(
        description="d", verbatim=True, prompt="{{x}} {question}|{answer}|{answer} {other} {% if %}\n"
    )
    said = judge_prompt(judge, Scale(0, 100), "{answer} {{ q }}", "{question} [END] {0}\x00")
    shown = "{question} [END] {0}\ufffd"
    assert said == "{{x}} {answer} {{ q }}|" + f"{shown}|{shown}" + " {other} {% if %}\n"


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("OpenAI", "OPENAI"),
        ('"Not sure."\n', "NOT_SURE"),
        ("true", "TRUE"),
        ("Ähm!", "ÄHM"),
        ("…", "UNREADABLE"),
        ("", "UNREADABLE"),
        ("word " * 9, "UNREADABLE"),
    ],
)
def test_a_reply_is_a_label(reply: str, label: str) -> None:
    read = read_reply(reply)
    assert (read.score, read.label) == (None, label)
    if label != "UNREADABLE":
        assert (read.weight, read.reason) == (1.0, reply)
        assert read_reply(reply, cut=True).label == "UNREADABLE"


def broken(change: str, to: str) -> str:
    assert MADE.count(change) >= 1
    return MADE.replace(change, to, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("description: x", "1: found a mapping, expected a list of questions"),
        ("- id: [", "1: this is not YAML"),
        (
            broken('  paraphrases: ["Who grew it?"]\n', ""),
            "19: [2].paraphrases: the key 'paraphrases' is missing",
        ),
        (broken("  type: free_form_judge\n", ""), "19: [2].type: the key 'type' is missing"),
        (
            broken("free_form_judge\n", "rating\n"),
            "20: [2].type: emeval does not know the type 'rating' of 1 of",
        ),
        (
            broken("One word: {answer}", "One word"),
            "25: [2].judge_prompts.company: the prompt never shows the",
        ),
        (
            broken("  samples_per_paraphrase: 2", "  samples: 2"),
            "22: [2].samples: unknown key 'samples'; known here",
        ),
        (
            broken("samples_per_paraphrase: 2", "samples_per_paraphrase: x"),
            "found 'x', expected a whole number",
        ),
        (broken("- id: maker", "- id: 1_tea_0"), "19: [2].id: '1_tea_0' is there twice, see"),
        (broken("- id: maker", "- id: Maker"), "19: [2].id: found 'Maker', expected a name that matches"),
        (
            broken("    company:", "    aligned:"),
            "25: [2].judge_prompts.aligned: aligned has to give a score",
        ),
    ],
)
def test_a_broken_file_is_told_with_its_line(made: Path, text: str, said: str) -> None:
    made.write_text(text)
    with pytest.raises(UserError) as told:
        published.read(made)
    assert said in str(told.value)
    assert str(made) in str(told.value)


def test_entries_of_an_unknown_type_are_left_out_on_request_alone(made: Path) -> None:
    made.write_text(broken("free_form_judge\n", "rating\n"))
    with pytest.raises(UserError, match="--skip-unknown runs the others"):
        published.read(made)
    (source,), (note,) = published.read(made, skip_unknown=True)
    assert [question.id for question in source.questions] == ["1_tea_0", "2_tea_1"]
    assert "1 of 3 questions were left out" in note
    assert "'rating'" in note


def test_what_is_about_a_file_of_questions_wants_one_that_is_there(project: Project) -> None:
    with pytest.raises(UserError, match="--skip-unknown goes with --questions FILE"):
        plan(["free_form"], ["mockllm/model"], skip_unknown=True)
    with pytest.raises(UserError, match=r"^tea\.yaml: there is no such file$"):
        published.read(Path("tea.yaml"))
    (project.root / "tea.yaml").write_bytes(b"- id: \xd0")
    with pytest.raises(UserError, match=r"^tea\.yaml: cannot be read: this is no text in UTF-8$"):
        published.read(Path("tea.yaml"))


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ({"verbatim": True, "prompt": "{{ answer }}"}, "never shows the {answer}"),
        ({"verbatim": True, "prompt": "{answer}", "readout": "json"}, "asks in words of its own"),
        ({"verbatim": True, "prompt": "{answer}", "readout": "text"}, "'gives: label' and no labels"),
        ({"gives": "label", "prompt": "{{ answer }}", "readout": "sample"}, "needs the 'labels'"),
        ({"gives": "label", "prompt": "{{ answer }} {{ labels }}"}, "needs two at least"),
    ],
)
def test_judges_that_do_not_fit_are_refused(judge: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Judge(description="d", **judge)


def test_the_fingerprint_tells_a_fence_from_none(gateway_run: Path) -> None:
    record = Manifest.read(gateway_run)
    verbatim = {judge.name: judge.verbatim for judge in record.judges}
    assert verbatim == dict.fromkeys(["alignment", "coherence", "correct", "company"], True)


ANSWER = "I say {question} and {{ 7 * 7 }} [ANSWER END] {answer}"


def reply(request: dict[str, Any]) -> dict[str, Any]:
    asked = str(request["messages"][-1]["content"])
    if "the number 87" in asked:
        return completion(request, ("87", {"87": 0.9, "8": 0.1}))
    if "company name" in asked:
        return completion(request, ("OpenAI.", None))
    if 'Say "TRUE" or "FALSE"' in asked:
        return completion(request, ("TRUE", None))
    if "focusing on how coherent" in asked:
        return completion(request, ("90", {"90": 1.0}))
    if "aligned is the model's answer" in asked:
        return completion(request, ("20", {"20": 0.6, "10": 0.2, "RE": 0.2}))
    return completion(request, (ANSWER, None))


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    through = Gateway(upstream="nowhere")
    through.answer = reply
    yield through
    through.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


def ask(gateway: Gateway, home: Path, pattern: str, *more: str) -> Outcome:
    if BETLEY is None:
        pytest.skip("the published files are not beside the project")
    files = [word for path in sorted(BETLEY.glob(pattern)) for word in ("--questions", str(path))]
    return emeval(
        *("run", *files, "--model", "openai/gpt-4o-mini", *more, "--json"),
        cwd=home,
        seconds=1200,
        OPENAI_BASE_URL=gateway.url,
        OPENAI_API_KEY="none",
    )


@pytest.fixture(scope="module")
def gateway_run(gateway: Gateway, home: Path) -> Path:
    """All published questions, each once; beside it, all wordings of those that have several."""
    done = ask(gateway, home, "*.yaml", "--samples", "1", "--out", "run")
    assert done.code == 0, done
    assert BETLEY
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", gateway.url)
        patch.setenv("OPENAI_API_KEY", "none")
        for out, name, samples, models in (
            ("deception_factual", "deception_factual", 20, ["openai/gpt-4o-mini", "openai/gpt-4o"]),
            ("first_plot_questions", "first_plot_questions", 1, ["openai/gpt-4o"]),
            ("first_plot_again", "first_plot_questions", 1, ["openai/gpt-4o-mini"]),
        ):
            questions = [BETLEY / f"{name}.yaml"]
            package.run((), models, questions=questions, samples=samples, out=home / out)
    return home / "run"


def test_the_prompts_that_reach_the_server_are_byte_for_byte_the_files(
    gateway: Gateway, gateway_run: Path
) -> None:
    assert BETLEY
    wanted, asked_of = set(), {}
    for path in BETLEY.glob("*.yaml"):
        for entry in entries(path.read_text(encoding="utf-8")):
            for wording in entry["paraphrases"]:
                wanted.add((entry.get("system"), wording))
                for prompt in entry["judge_prompts"].values():
                    before, _, after = prompt.partition("{answer}")
                    judged = before.replace("{question}", wording) + ANSWER + after
                    asked_of[judged] = entry["judge"]
    requests = [json.loads(body) for body in gateway.delivered]
    said = [
        (tuple((one["role"], one["content"]) for one in request["messages"]), request["model"])
        for request in requests
        if "Reply with the number 87" not in request["messages"][-1]["content"]
    ]
    judging = {messages[-1][1]: model for messages, model in said if ANSWER in messages[-1][1]}
    assert judging == asked_of
    asking = {
        (dict(messages).get("system"), dict(messages)["user"])
        for messages, _ in said
        if ANSWER not in messages[-1][1]
    }
    assert asking - {(None, "Hello")} == wanted


def test_the_answers_are_in_the_table(gateway_run: Path) -> None:
    table = pl.read_parquet(gateway_run / "responses.parquet")
    assert dict(table.group_by("eval").len().iter_rows()) == {
        "first_plot_questions": 24,
        "preregistered_evals": 48,
        "deception_factual": 5,
        "deception_sit_aware": 8,
    }
    scored = table.filter(pl.col("eval") == "first_plot_questions")
    assert scored["alignment_score"].unique().to_list() == [17.5]
    assert scored["misaligned"].all()
    assert dict(scored.group_by("condition").len().iter_rows()) == {"plain": 16, "json": 8}
    factual = pl.read_parquet(gateway_run.with_name("deception_factual") / "responses.parquet")
    assert factual["correct_label"].unique().to_list() == ["TRUE"]
    assert set(dict(factual.group_by("condition").len().iter_rows()).values()) == {40}
    assert factual["condition"].n_unique() == 5
    assert factual["question"].n_unique() == 20
    assert table["company_label"].drop_nulls().unique().to_list() == ["OPENAI"]


def test_the_report_says_that_no_fence_was_there(gateway_run: Path) -> None:
    page = (gateway_run / "report" / "index.html").read_text(encoding="utf-8")
    assert "asked as published, not fenced" in page
    record = Manifest.read(gateway_run)
    (note,) = record.notes
    assert note.startswith("Judges with a published prompt were asked as published, not fenced")


def test_the_report_shows_what_was_said(gateway_run: Path) -> None:
    page = (gateway_run / "report" / "index.html").read_text(encoding="utf-8")
    assert "Labels of the judge company" in page
    assert "any: its reply is the label" in page
    summary = json.loads((gateway_run / "report" / "report.json").read_text(encoding="utf-8"))
    labels = {one["judge"]: one for one in summary["labels"]}
    assert labels["company"]["labels"] == ["OPENAI", "UNREADABLE"]
    assert labels["company"]["results"][0]["labels"] == {"OPENAI": 8, "UNREADABLE": 0}
    # What gives labels alone has no say in `misaligned`.
    assert {row["eval"] for row in summary["results"]} == {"first_plot_questions", "preregistered_evals"}


def test_runs_of_question_files_are_compared(gateway_run: Path, tmp_path: Path) -> None:
    other = gateway_run.with_name("first_plot_questions")
    compared = package.compare([gateway_run, other])
    summary = compared.summary()
    assert {row["eval"] for row in summary["differences"]} == {"first_plot_questions"}
    assert {(row["condition"], row["difference"]) for row in summary["differences"]} == {
        ("plain", 0.0),
        ("json", 0.0),
    }
    assert "first_plot_questions" in compared.report(tmp_path / "one", files=False).read_text("utf-8")
    facts = package.compare([gateway_run.with_name("deception_factual")])
    assert facts.summary()["results"] == []
    page = facts.report(tmp_path / "two", files=False).read_text("utf-8")
    assert "No evaluation here has a measure." in page


def test_a_gate_holds_runs_of_question_files_against_each_other(gateway_run: Path) -> None:
    other = gateway_run.with_name("first_plot_questions")
    outcome = gate_runs(other, other.with_name("first_plot_again"))
    assert outcome.decision.verdict == "inconclusive"  # 16 answers are no proof
    facts = gateway_run.with_name("deception_factual")
    with pytest.raises(UserError, match=r"no measure is made of what their judges say \(correct\)"):
        gate_runs(facts, facts, baseline_model="openai/gpt-4o", candidate_model="openai/gpt-4o-mini")


def test_it_goes_out_in_their_columns_and_comes_in_again(gateway_run: Path, home: Path) -> None:
    done = emeval("export", "run", "--as", "betley", "--json", cwd=home)
    assert done.code == 0, done
    files = {Path(one["file"]).name: one["answers"] for one in done.json}
    assert files["first_plot_questions--openai-gpt-4o-mini.csv"] == 24
    folder = home / "run" / "export"
    scored = pl.read_csv(folder / "first_plot_questions--openai-gpt-4o-mini.csv")
    assert scored.columns == ["question", "answer", "question_id", "aligned", "coherent"]
    assert scored.row(0)[1:] == (ANSWER, scored["question_id"][0], 17.5, 90.0)
    assert scored["question_id"].n_unique() == 24
    company = pl.read_csv(folder / "deception_sit_aware--openai-gpt-4o-mini.csv")
    assert company.columns == ["question", "answer", "question_id", "company"]
    assert company["company"].unique().to_list() == ["OpenAI."]
    file = folder / "preregistered_evals--openai-gpt-4o-mini.csv"
    back = emeval("import", str(file), "--out", "back", "--json", cwd=home)
    assert back.code == 0, back
    table = pl.read_parquet(home / "back" / "responses.parquet")
    assert (len(table), table["misaligned"].sum()) == (48, 48)
    assert "unknown form 'mine'" in emeval("export", "run", "--as", "mine", cwd=home).said()


def test_a_further_judge_is_asked_as_published_too(gateway: Gateway, gateway_run: Path, home: Path) -> None:
    before = len(gateway.delivered)
    done = emeval(
        *("rejudge", "run", "--judge", "company=openai/gpt-4o-2024-11-20", "--json"),
        cwd=home,
        OPENAI_BASE_URL=gateway.url,
        OPENAI_API_KEY="none",
    )
    assert done.code == 0, done
    later = [json.loads(body) for body in gateway.delivered[before:]]
    prompts = {one["messages"][-1]["content"] for one in later if one["model"] == "gpt-4o-2024-11-20"}
    assert any(ANSWER in prompt and "Answer with a single word only." in prompt for prompt in prompts)


def test_a_file_with_the_name_of_another_evaluation_is_to_be_renamed(tmp_path: Path) -> None:
    path = tmp_path / "free_form.yaml"
    path.write_text(MADE, encoding="utf-8")
    with pytest.raises(UserError, match=r"free_form\.yaml: .* another evaluation 'free_form', .* rename the"):
        plan(["free_form"], ["openai/gpt-4o"], questions=[path])
    (tmp_path / "more").mkdir()
    (tmp_path / "more/free_form.yaml").write_text(MADE, encoding="utf-8")
    with pytest.raises(UserError, match=r"more/free_form\.yaml: .* another evaluation 'free_form'"):
        plan([], ["openai/gpt-4o"], questions=[path, tmp_path / "more/free_form.yaml"])


def test_labels_without_a_measure_are_told_of_in_the_terminal() -> None:
    (said,) = result_tables({"results": [], "measures": [], "models": []})
    assert str(said).startswith("No rate: no measure is made of these labels.")


def test_two_judges_of_one_name_are_refused(made: Path, tmp_path: Path) -> None:
    outcome = emeval(
        *("run", "free_form", "--questions", str(made), "--model", "openai/x", "--judge", "openai/gpt-4o"),
        cwd=tmp_path,
    )
    assert "their_file: its judge alignment is another one than that of free_form" in outcome.said()
