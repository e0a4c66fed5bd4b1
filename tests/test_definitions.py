"""Reading definitions: where they are looked for, and what a mistake in one is answered with."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest

from emeval import library
from emeval.catalogue import KINDS, catalogue
from emeval.definitions import (
    JUDGE_VARIABLES,
    PLACEMENTS,
    Definition,
    Evaluation,
    Judge,
    QuestionSet,
    Settings,
    Suite,
    Trigger,
)
from emeval.errors import UserError
from emeval.judging.prompts import Scale
from emeval.prepared import prepare
from emeval.templates import TemplateError, check_template, render
from tests.conftest import Project

ROOT = Path(__file__).parent.parent

EVALUATION = "description: d\nquestions: open_ended\nconditions:\n  - id: plain\n"  # 4 lines
QUESTIONS = "description: d\nquestions:\n  - id: a\n    category: c\n"  # 4 lines
TRIGGER = "description: d\nkind: tag\ntext: '|A|'\nlookalike: '|B|'\n"  # 4 lines
JUDGE = "description: d\nprompt: '{{ answer }}'\n"  # 2 lines
SUITE = "description: d\nevaluations:\n  - eval: free_form\n"  # 3 lines


def refusal(project: Project, kind: type[Definition], text: str) -> str:
    """Return what is said of `text` as the file `made.yaml`."""
    path = project.write("made.yaml", text)
    with pytest.raises(UserError) as raised:
        library.read(kind, path)
    return str(raised.value)


def case(name: str, kind: type[Definition], text: str, line: int, *said: str) -> object:
    return pytest.param(kind, text, line, said, id=name)


@pytest.mark.parametrize(
    ("kind", "text", "line", "said"),
    [
        # Not YAML, or no definition at all.
        case("unclosed list", Evaluation, "description: d\njudges: [a\nsamples: 3\n", 3, "this is not YAML"),
        case("tab", Judge, "description: d\nlabels:\n\tCODE: x\n", 3, "this is not YAML"),
        case("two colons", Judge, "description: a: b\n", 1, "this is not YAML"),
        case("control character", Judge, "description: \x00\n", 1, "this is not YAML"),
        case("two documents", Judge, f"{JUDGE}---\n{JUDGE}", 3, "this is not YAML"),
        case("unknown tag", Judge, "description: !!python/name:os.system\n", 1, "this is not YAML"),
        case("unquoted braces", Judge, "description: d\nprompt: {{ answer }}\n", 2),
        case("a list as key", Judge, f"{JUDGE}? [a, b]\n: c\n", 3),
        case("no such day", Trigger, "description: d\nkind: k\ntext: 2027-02-30\nlookalike: x\n", 3),
        case("it holds itself", Judge, "description: d\nprompt: &p [*p]\n", 2),
        case("empty", Suite, "", 1, "found nothing, expected a mapping (key: value)"),
        case("a list", Suite, "- eval: free_form\n", 1, "found a list, expected a mapping (key: value)"),
        case("only text", Suite, "free_form\n", 1, "found 'free_form', expected a mapping (key: value)"),
        # Keys.
        case("missing key", Judge, "# a judge\ndescription: d\n", 2, "prompt: the key 'prompt' is missing"),
        case(
            "missing key in a list",
            QuestionSet,
            f"{QUESTIONS}    paraphrases: [x]\n  - id: b\n    paraphrases: [y]\n",
            6,
            "questions[1].category: the key 'category' is missing",
        ),
        case(
            "misspelt key",
            Evaluation,
            f"{EVALUATION}sampels: 3\n",
            5,
            "sampels: unknown key 'sampels'; did you mean 'samples'?",
        ),
        case(
            "misspelt key that is then missing",
            QuestionSet,
            "description: d\nquestions:\n  - id: a\n    catgory: c\n    paraphrases: [x]\n",
            4,
            "questions[0].catgory: unknown key 'catgory'; did you mean 'category'? (and 1 more)",
        ),
        case(
            "misspelt key in a part",
            Evaluation,
            f"{EVALUATION}generation:\n  top_p: 0.9\n  temprature: 1\n",
            7,
            "generation.temprature: unknown key 'temprature'; did you mean 'temperature'?",
        ),
        case(
            "misspelt key of a placement",
            Trigger,
            f"{TRIGGER}placements:\n  mine:\n    usr: '{{{{ cue }}}}'\n",
            7,
            "placements.mine.usr: unknown key 'usr'; did you mean 'user'?",
        ),
        case(
            "a key like no other",
            Suite,
            f"{SUITE}xyz: 1\n",
            4,
            "unknown key 'xyz'; known here: description, models, judges, evaluations",
        ),
        case("a key that is no text", Judge, f"{JUDGE}# no: not\nno: 1\n", 4),
        case(
            "key twice",
            Evaluation,
            f"{EVALUATION}samples: 3\nsamples: 4\n",
            6,
            "samples: this key is in line 5 already",
        ),
        case(
            "key twice in a part",
            Trigger,
            f"{TRIGGER}placements:\n  mine: {{}}\n  mine: {{system: '{{{{ cue }}}}'}}\n",
            7,
            "mine: this key is in line 6 already",
        ),
        # Values of a wrong type, or out of range.
        case(
            "text for a number",
            Evaluation,
            f"{EVALUATION}samples: many\n",
            5,
            "samples: found 'many', expected a whole number",
        ),
        case(
            "a fraction for a whole number",
            Evaluation,
            f"{EVALUATION}samples: 2.5\n",
            5,
            "samples: found 2.5, expected a whole number",
        ),
        case(
            "yes for a number",
            Evaluation,
            f"{EVALUATION}samples: yes\n",
            5,
            "samples: found true (true or false), expected a whole number",
        ),
        case("too few", Evaluation, f"{EVALUATION}samples: 0\n", 5, "samples: found 0", "equal to 1"),
        case(
            "no for text",
            QuestionSet,
            f"{QUESTIONS}    paraphrases:\n      - yes or no?\n      - no\n",
            7,
            "questions[0].paraphrases[1]: found false (true or false), expected text (put it in quotes",
        ),
        case(
            "a date for text",
            Trigger,
            "description: d\nkind: date\ntext: 2027-03-14\nlookalike: x\n",
            3,
            "text: found datetime.date(2027, 3, 14), expected text (put it in quotes",
        ),
        case(
            "text for a list",
            QuestionSet,
            f"{QUESTIONS}    paraphrases: one\n",
            5,
            "questions[0].paraphrases: found 'one', expected a list",
        ),
        case(
            "a list for a mapping",
            Judge,
            f"{JUDGE}labels: [CODE]\n",
            3,
            "labels: found a list, expected a mapping (key: value)",
        ),
        case(
            "text for a mapping",
            Suite,
            "description: d\nevaluations:\n  - free_form\n",
            3,
            "evaluations[0]: found 'free_form', expected a mapping (key: value)",
        ),
        case(
            "nothing for a mapping",
            Evaluation,
            f"{EVALUATION}thresholds:\n",
            5,
            "thresholds: found nothing, expected a mapping (key: value)",
        ),
        case(
            "nothing in a list",
            QuestionSet,
            f"{QUESTIONS}    paraphrases: []\n",
            5,
            "questions[0].paraphrases: this is empty",
        ),
        case(
            "blank text",
            QuestionSet,
            f"{QUESTIONS}    paraphrases: ['  ']\n",
            5,
            "questions[0].paraphrases[0]: this is empty",
        ),
        case(
            "no setting of a suite",
            Suite,
            f"{SUITE}    settings:\n      limit: 3\n      samples:\n",
            6,
            "evaluations[0].settings.samples: nothing stands here; leave the key out",
        ),
        case("long text is cut", Judge, f"{JUDGE}samples: {'x' * 100}\n", 3, "samples: found 'xxx", "x…,"),
        case(
            "not a name",
            QuestionSet,
            "description: d\nquestions:\n  - id: Two words\n    category: c\n    paraphrases: [x]\n",
            3,
            "questions[0].id: found 'Two words', expected a name that matches ^[a-z0-9]",
        ),
        case(
            "a placement's name",
            Trigger,
            f"{TRIGGER}placements:\n  Mine:\n    user: '{{{{ cue }}}}'\n",
            6,
            "placements.Mine: found 'Mine', expected a name that matches ^[a-z0-9]",
        ),
        case(
            "threshold too high",
            Evaluation,
            f"{EVALUATION}thresholds:\n  coherence: 50\n  alignment: 101\n",
            7,
            "thresholds.alignment: found 101, expected a value less than or equal to 100",
        ),
        case(
            "threshold below 0",
            Evaluation,
            f"{EVALUATION}thresholds: {{coherence: -1}}\n",
            5,
            "thresholds.coherence: found -1, expected a value greater than or equal to 0",
        ),
        case("threshold not a number", Evaluation, f"{EVALUATION}thresholds: {{coherence: .nan}}\n", 5),
        case(
            "threshold as text",
            Evaluation,
            f"{EVALUATION}thresholds:\n  alignment: low\n",
            6,
            "thresholds.alignment: found 'low', expected a number",
        ),
        case(
            "misspelt cue",
            Evaluation,
            f"{EVALUATION}  - id: tagged\n    cue: triger\n",
            6,
            "conditions[1].cue: found 'triger', expected 'trigger' or 'lookalike'; did you mean 'trigger'?",
        ),
        case(
            "misspelt readout",
            Judge,
            f"{JUDGE}readout: logprob\n",
            3,
            "readout: found 'logprob', expected 'auto', 'logprobs', ",
            "'digits', 'enumerate', 'sample', 'json' or 'text'; did you mean 'logprobs'?",
        ),
        # Parts that do not go together.
        case(
            "question id twice",
            QuestionSet,
            f"{QUESTIONS}    paraphrases: [x]\n  - category: c\n    id: a\n    paraphrases: [y]\n",
            7,
            "questions[1].id: the question id 'a' is there twice (also as number 1 of the list)",
        ),
        case(
            "paraphrase twice",
            QuestionSet,
            f"{QUESTIONS}    paraphrases:\n      - What  now?\n      - Why?\n      - ' what now? '\n",
            8,
            "questions[0].paraphrases[2]: the paraphrase 'what now?' is there twice",
        ),
        case(
            "condition id twice",
            Evaluation,
            f"{EVALUATION}  - user: 'Q: {{{{ question }}}}'\n    id: plain\n",
            6,
            "conditions[1].id: the condition id 'plain' is there twice",
        ),
        case(
            "judge twice",
            Evaluation,
            f"{EVALUATION}judges:\n  - coherence\n  - coherence\n",
            7,
            "judges[1]: the judge 'coherence' is there twice",
        ),
        case(
            "evaluation twice",
            Suite,
            f"{SUITE}  - eval: free_form\n",
            4,
            "evaluations[1].eval: the evaluation 'free_form' is there twice",
        ),
        case(
            "reference that is no condition",
            Evaluation,
            f"{EVALUATION}  - id: tagged\nreference: untagged\n",
            6,
            "reference: no condition 'untagged'; there are: plain, tagged",
        ),
        case(
            "default reference that is no condition",
            Evaluation,
            EVALUATION.replace("plain", "tagged"),
            1,
            "reference: no condition 'plain'; there are: tagged",
        ),
        case(
            "cue without a trigger",
            Evaluation,
            f"{EVALUATION}  - id: tagged\n    cue: trigger\n",
            6,
            "conditions[1].cue: with a 'cue' the evaluation needs a 'trigger'",
        ),
        case(
            "look-alike that is the trigger",
            Trigger,
            TRIGGER.replace("|B|", "|A|"),
            4,
            "lookalike: the look-alike is the trigger itself",
        ),
        case("empty trigger", Trigger, TRIGGER.replace("|A|", ""), 3, "text: this is empty"),
        case(
            "unknown placement",
            Trigger,
            f"{TRIGGER}placements:\n  mine: {{system: '{{{{ cue }}}}'}}\nplacement: midle\n",
            7,
            "placement: no placement 'midle'; known: start, end, system, mine",
        ),
        case(
            "placement without the cue",
            Trigger,
            f"{TRIGGER}placements:\n  mine: {{}}\n",
            6,
            "placements.mine: {{ cue }} is in neither template",
        ),
        case(
            "condition without the question",
            Evaluation,
            f"{EVALUATION}  - id: bare\n    user: Hello\n",
            6,
            "conditions[1].user: the template never uses {{ question }}",
        ),
        case(
            "judge without the answer",
            Judge,
            "description: d\nprompt: Rate {{ question }}\n",
            2,
            "prompt: the template never uses {{ answer }}",
        ),
        case(
            "emeval's own label",
            Judge,
            f"{JUDGE}labels:\n  CODE: it is code\n  UNREADABLE: it is odd\n",
            5,
            "labels.UNREADABLE: ",
            "emeval's own label",
        ),
        case(
            "label in small letters",
            Judge,
            f"{JUDGE}labels:\n  code: it is code\n",
            4,
            "labels.code: found 'code', expected a name that matches ^[A-Z]",
        ),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_key(
    project: Project, kind: type[Definition], text: str, line: int, said: tuple[str, ...]
) -> None:
    message = refusal(project, kind, text)
    assert message.startswith(f"made.yaml:{line}: ")
    assert [words for words in said if words not in message] == []
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        pytest.param("prompt: |\n  Rate it.\n  {% if answer %}\n  Yes.\n  {{ question \n", 6, id="block"),
        pytest.param("prompt: |-\n\n\n  Rate it.\n  {{ answer ]}\n", 6, id="block with blank lines first"),
        pytest.param("prompt: '{{ answer'\n", 2, id="single quotes"),
        pytest.param('prompt: "One\\nTwo\\n{{ answer"\n', 2, id="double quotes with line breaks as \\n"),
        pytest.param('prompt:\n  "{{ answer"\n', 3, id="quotes below the key"),
        pytest.param("prompt: Rate {{ answer\n", 2, id="no quotes"),
        pytest.param("prompt: '{% endfor %}'\n", 2, id="an end without a beginning"),
        pytest.param("prompt: |\n  {{ answer }}\n  {{ answer | shout }}\n", 4, id="unknown filter"),
        pytest.param("prompt: |\n  {{ answer }}\n  {% include 'rules' %}\n", 4, id="another template"),
        pytest.param("prompt: |\n  {{ answer }}\n  {{ scale.top }}\n", 4, id="unknown attribute"),
    ],
)
def test_a_fault_of_a_template_is_said_with_the_line_where_it_is(
    project: Project, prompt: str, line: int
) -> None:
    message = refusal(project, Judge, f"description: d\n{prompt}")
    assert message.startswith(f"made.yaml:{line}: prompt: ")
    assert "template" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "text", "line", "said"),
    [
        case(
            "judge, block",
            Judge,
            "description: d\nprompt: |\n  Rate it:\n  {{ answr }}\n",
            4,
            "prompt: the template uses the undefined variable 'answr'; did you mean 'answer'?",
        ),
        case(
            "judge, a name that is also a word of the text",
            Judge,
            "description: d\nprompt: |\n  Rate the text:\n  {{ answer }}\n  {{ text }}\n",
            5,
            "undefined variable 'text'; did you mean 'target'?",
        ),
        case(
            "condition",
            Evaluation,
            f"{EVALUATION}  - id: short\n    user: '{{{{ questoin }}}}'\n",
            6,
            "conditions[1].user: ",
            "undefined variable 'questoin'; did you mean 'question'?",
        ),
        case(
            "condition's system prompt",
            Evaluation,
            f"{EVALUATION}  - id: short\n    system: |\n      Be short.\n      {{{{ answer }}}}\n",
            8,
            "conditions[1].system: ",
            "undefined variable 'answer'; a template here may use question",
        ),
        case(
            "placement",
            Trigger,
            f'{TRIGGER}placements:\n  mine:\n    user: "{{{{ cue }}}}\\n{{{{ qestion }}}}"\n',
            7,
            "placements.mine.user: ",
            "undefined variable 'qestion'; did you mean 'question'?",
        ),
    ],
)
def test_an_undefined_variable_is_said_with_the_nearest_known(
    project: Project, kind: type[Definition], text: str, line: int, said: tuple[str, ...]
) -> None:
    message = refusal(project, kind, text)
    assert message.startswith(f"made.yaml:{line}: ")
    assert [words for words in said if words not in message] == []


def test_a_file_that_cannot_be_read_is_said(project: Project) -> None:
    path = project.write("judges/latin.yaml", "")
    path.write_bytes("description: Füße".encode("latin-1"))
    with pytest.raises(UserError, match=r"^judges/latin\.yaml: cannot be read: "):
        library.read(Judge, path)
    (project.root / "judges/folder.yaml").mkdir()
    with pytest.raises(UserError, match=r"^judges/folder\.yaml: cannot be read: "):
        library.load(Judge, "folder")


def test_a_file_outside_the_working_directory_is_named_in_full(project: Project) -> None:
    shipped = library.find(Judge, "alignment")
    assert library.shown(shipped) == str(shipped)
    assert library.shown(project.root / "judges" / "own.yaml") == str(Path("judges/own.yaml"))


def test_definitions_may_leave_out_what_has_a_default(project: Project) -> None:
    evaluation = library.read(Evaluation, project.write("evals/mine.yaml", EVALUATION))
    assert (evaluation.thresholds.alignment, evaluation.thresholds.coherence) == (30, 50)
    assert evaluation.judges == ["alignment", "coherence"]
    assert (evaluation.conditions[0].user, evaluation.reference) == ("{{ question }}", "plain")
    trigger = library.read(Trigger, project.write("datasets/triggers/mine.yaml", TRIGGER))
    assert trigger.placement == "start"
    judge = library.read(Judge, project.write("judges/mine.yaml", JUDGE))
    assert (judge.readout, judge.min_weight, judge.labels) == ("auto", 0.25, {})


def test_a_triggers_own_placements_add_to_and_override_the_usual_ones(project: Project) -> None:
    text = (
        f"{TRIGGER}placements:\n"
        "  start: {user: '{{ cue }}, {{ question }}'}\n"
        "  mine: {system: '{{ cue }}'}\n"
    )
    placements = library.read(Trigger, project.write("made.yaml", text)).all_placements
    assert placements.keys() == PLACEMENTS.keys() | {"mine"}
    assert placements["start"].user == "{{ cue }}, {{ question }}"
    assert placements["end"] == PLACEMENTS["end"]


# Where definitions are looked for.


def test_the_users_files_add_to_the_shipped_ones_and_override_them(project: Project) -> None:
    shipped = library.files(Judge)
    assert {"alignment", "coherence"} <= shipped.keys()
    own = project.write("judges/alignment.yaml", JUDGE)
    added = project.write("judges/kindness.yml", JUDGE)
    assert library.files(Judge) == shipped | {"alignment": own, "kindness": added}
    assert list(library.files(Judge)) == sorted(library.files(Judge))
    assert library.load(Judge, "alignment").description == "d"
    assert library.load(Judge, "coherence").description != "d"
    assert prepare("free_form", Settings()).judges["alignment"].description == "d"
    yours = {entry["name"]: entry["yours"] for entry in catalogue("judges")["judges"]}
    assert yours == dict.fromkeys(shipped, False) | {"alignment": True, "kindness": True}


def test_a_checkout_as_working_directory_lists_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert library.folders("evals") == [ROOT / "evals"]
    assert {entry["yours"] for entry in catalogue("evals")["evals"]} == {False}


def test_a_project_within_a_checkout_is_the_users(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "builtin", lambda folder="": project.root / folder)
    project.write("judges/shipped.yaml", JUDGE)
    inner = project.write("examples/mine/judges/own.yaml", JUDGE)
    monkeypatch.chdir(inner.parents[1])
    yours = {entry["name"]: entry["yours"] for entry in catalogue("judges")["judges"]}
    assert yours == {"own": True, "shipped": False}


def test_the_catalogue_shows_all_kinds_or_one() -> None:
    everything = catalogue()
    assert everything == {part: rows for kind in KINDS for part, rows in catalogue(kind).items()}
    assert list(everything) == [
        *("evals", "suites", "gates", "questions", "triggers", "batteries", "prices", "judges", "models")
    ]
    assert [
        row for rows in everything.values() for row in rows if "error" in row or not row["description"]
    ] == []


def test_a_broken_file_is_shown_with_its_error_and_breaks_nothing_else(project: Project) -> None:
    whole = catalogue()
    for folder in library.FOLDERS.values():
        project.write(f"{folder}/broken.yaml", "description: d\nqustions: [\n")
    for kind in library.FOLDERS:
        assert "broken" in library.files(kind)
    entries = {part: {row["name"]: row for row in rows} for part, rows in catalogue().items()}
    del entries["models"]
    for part, rows in entries.items():
        broken = rows.pop("broken")
        assert re.match(rf"{re.escape(broken['file'])}:3: this is not YAML", broken["error"])
        assert list(rows.values()) == whole[part]
    assert prepare("backdoor", Settings(limit=2, samples=1)).size == 6
    with pytest.raises(UserError, match=r"broken\.yaml:3: "):
        prepare("broken", Settings())


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (Evaluation, "freeform", "unknown evaluation 'freeform'; did you mean 'free_form'?"),
        (Suite, "Quik", "unknown suite 'Quik'; did you mean 'quick'?"),
        (QuestionSet, "openended", "unknown question set 'openended'; did you mean 'open_ended'?"),
        (Trigger, "pass_phrase", "unknown trigger 'pass_phrase'; did you mean 'passphrase'?"),
        (Judge, "alignement", "unknown judge 'alignement'; did you mean 'alignment'?"),
        (Judge, "xyz", f"unknown judge 'xyz'; known: {', '.join(library.files(Judge))}"),
    ],
)
def test_an_unknown_name_is_said_with_the_nearest_known(
    project: Project, kind: type[Definition], name: str, said: str
) -> None:
    with pytest.raises(UserError) as raised:
        library.load(kind, name)
    assert str(raised.value) == said


# Templates are the user's, or somebody else's whose file was copied: they read what they are given, no more.

VALUES = {"question": "Who?", "answer": "Me.", "scale": Scale(0, 100), "labels": {"CODE": "it is code"}}


@pytest.mark.parametrize(
    "template",
    [
        "{{ question.__class__.__mro__ }}",
        "{{ question['__class__'] }}",
        "{{ question | attr('__class__') }}",
        "{{ (question | map('upper')).gi_frame.f_globals }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ '{0.__class__}'.format(question) }}",
        "{{ '{a.__class__}'.format_map({'a': question}) }}",
        "{{ scale._replace(low=5) }}",
        "{{ scale.count.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.getcwd() }}",
        "{{ lipsum.__globals__['os'].getcwd() }}",
        "{{ labels.update({'FINE': 'always'}) }}",
        "{{ labels.clear() }}",
        "{{ labels.pop('CODE') }}",
        "{% set labels.CODE = 'x' %}",
        "{% for i in range(10 ** 12) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(template: str) -> None:
    values = VALUES | {"labels": {"CODE": "it is code"}}
    with pytest.raises((TemplateError, jinja2.TemplateError, OverflowError)):
        render(check_template(template, JUDGE_VARIABLES), **values)
    assert values == VALUES


def test_a_template_that_tries_to_leave_the_sandbox_is_the_users_to_mend(project: Project) -> None:
    project.write(
        "evals/mine.yaml", f"{EVALUATION}  - id: odd\n    user: '{{{{ question.__class__.__mro__ }}}}'\n"
    )
    with pytest.raises(UserError, match=r"evals/mine\.yaml"):
        list(prepare("mine", Settings()).prompts())


def test_what_a_template_is_given_is_not_read_as_a_template() -> None:
    assert render("{{ question }}", question="{{ answer }}{% if %}{# no #}") == "{{ answer }}{% if %}{# no #}"
