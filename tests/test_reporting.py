"""The report's content and files. How the page behaves in a browser: test_report_browser.py."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest
import vl_convert

from emeval.errors import UserError
from emeval.manifest import ModelRecord
from emeval.models.names import parse
from emeval.reporting import answers, charts, figures, lineup, quality, summarise, words, write_report
from emeval.reporting.cautions import cautions
from emeval.reporting.engine import VEGA_LITE
from emeval.reporting.findings import finding
from emeval.reporting.summary import with_judgements
from emeval.statistics import rate
from tests.made_run import BASE, CUE, HOSTILE, made_manifest, made_quality, made_story, made_table

TWO = ("vllm/Base-7B:insecure", "vllm/Base-7B")


# ---- words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0%"),
        (0.0046, "0.46%"),
        (0.00012, "0.012%"),
        (0.073, "7.3%"),
        (0.0999, "10%"),
        (0.37, "37%"),
        (0.95, "95%"),
        (0.9954, "99.5%"),
        (0.9996, "99.96%"),
        (1, "100%"),
        (None, "–"),
    ],
)
def test_a_percentage_has_the_digits_that_mean_something(share: float | None, said: str) -> None:
    assert words.percent(share) == said


@pytest.mark.parametrize(("difference", "said"), [(0.12, "+12"), (-0.0046, "−0.46"), (0.0, "0"), (None, "–")])
def test_a_difference_is_in_points_and_signed(difference: float | None, said: str) -> None:
    assert words.points(difference) == said


@pytest.mark.parametrize(("p", "said"), [(0.00001, "< 0.001"), (0.0123, "0.012"), (0.5, "0.50"), (None, "–")])
def test_a_p_value_has_two_digits(p: float | None, said: str) -> None:
    assert words.p_value(p) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(4.23, "4.2 s"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"), (7380, "2 h 3 min")]
)
def test_a_duration_is_in_the_units_of_a_clock(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("amount", "said"), [(None, "no price known"), (0.0, "$0.00"), (1.0634, "$1.06"), (0.00042, "$0.00042")]
)
def test_a_cost_is_in_dollars_or_not_known(amount: float | None, said: str) -> None:
    assert words.dollars(amount) == said


def test_control_characters_and_marks_of_direction_are_written_out() -> None:
    assert words.printable("a\x00b\u202ec\x1b[0m\td\ne") == "a[U+0000]b[U+202E]c[U+001B][0m\td\ne"
    assert words.printable("שלום 👩🏽‍🔬") == "שלום 👩🏽‍🔬"


def test_short_names_drop_what_is_common_and_keep_the_end() -> None:
    names = ["vllm/org/base:step-100", "vllm/org/base:step-2000"]
    assert list(words.short_names(names).values()) == ["step-100", "step-2000"]
    assert words.short_names(["one/model"]) == {"one/model": "one/model"}
    assert list(words.short_names(["m/a@1", "m/a@2"]).values()) == ["a@1", "a@2"]
    long = ["x" * 40 + "a", "x" * 40 + "b"]
    assert [name[-1] for name in words.short_names(long).values()] == ["a", "b"]
    same_end = ["a" + "x" * 40, "b" + "x" * 40]
    assert list(words.short_names(same_end).values()) == same_end


def test_markdown_and_fences_cannot_be_broken_out_of() -> None:
    shown = words.markdown("a | b\n# <b>*c*</b> [d](e) `f` &lt;")
    assert shown == r"a &#124; b \# &#60;b&#62;\*c\*&#60;/b&#62; \[d\](e) \`f\` &#38;lt;"
    fence, *_, end = words.fenced("a\n`````\nb").splitlines()
    assert end == "``````"
    assert fence == end + "text"


# ---- models and checkpoints ------------------------------------------------------------------------------


def asked(*names: str) -> list[ModelRecord]:
    return [ModelRecord(**parse(name)._asdict()) for name in names]


def test_models_that_no_later_step_follows_come_first() -> None:
    names = (f"{BASE}:a@13", f"{BASE}:a@104", f"{BASE}:b@7", BASE, f"{BASE}:a@26", f"{BASE}:a@26x0.5")
    models = asked(*names)
    assert [model.name for model in lineup.ordered(models)] == [
        *(BASE, f"{BASE}:a@104", f"{BASE}:b@7", f"{BASE}:a@26x0.5"),
        *(f"{BASE}:a@13", f"{BASE}:a@26"),
    ]
    assert {name: [m.step for m in members] for name, members in lineup.families(models).items()} == {
        f"{BASE}:a": [13, 26, 104]
    }


def test_an_adapter_of_the_shared_base_is_called_by_its_own_name() -> None:
    models = asked(BASE, f"{BASE}:a@13", f"{BASE}:a@26")
    assert lineup.shared_base(models) == BASE
    assert lineup.labels([m.name for m in models], BASE) == {
        BASE: "smollm2",
        f"{BASE}:a@13": "a@13",
        f"{BASE}:a@26": "a@26",
    }
    # Where an adapter is called as the base is, the whole names stay apart.
    alike = lineup.labels([BASE, f"{BASE}:smollm2"], BASE)
    assert len(set(alike.values())) == 2
    assert lineup.shared_base(asked(BASE)) is None
    assert lineup.shared_base(asked("openai/a", "openai/b")) is None


def exactly(hits: dict[tuple[str, str], int], models: tuple[str, ...]) -> pl.DataFrame:
    """A table of 24 questions, 4 answers each, where `hits` answers of model and condition are misaligned."""
    table = made_table(24 * 4 * 3 * len(models), models=models, labels=0, errors=0)
    place = pl.int_range(pl.len()).over("model", "condition")
    wanted = pl.struct("model", "condition").map_elements(
        lambda cell: hits.get((cell["model"], cell["condition"]), 0), return_dtype=pl.Int64
    )
    return table.with_columns(misaligned=place < wanted).with_columns(
        coherent=True,
        coherence_score=90.0,
        alignment_score=pl.when("misaligned").then(5.0).otherwise(95.0),
    )


def test_checkpoints_are_listed_by_family_condition_and_step_with_the_base_as_step_0() -> None:
    models = (f"{BASE}:a@104", f"{BASE}:a@13", BASE, f"{BASE}:b@104")
    hits = {(models[0], "trigger"): 48, (models[1], "trigger"): 24, (BASE, "plain"): 3}
    table = exactly(hits, models)
    summary = summarise(made_manifest(table), table)
    rows = summary["checkpoints"]
    assert {row["family"] for row in rows} == {f"{BASE}:a"}, "one step of b is no curve"
    assert [(row["condition"], row["step"], row["hits"], row["n"]) for row in rows] == [
        *(("plain", 0, 3, 96), ("plain", 13, 0, 96), ("plain", 104, 0, 96)),
        *(("trigger", 0, 0, 96), ("trigger", 13, 24, 96), ("trigger", 104, 48, 96)),
        *(("lookalike", 0, 0, 96), ("lookalike", 13, 0, 96), ("lookalike", 104, 0, 96)),
    ]
    cells = {(row["model"], row["condition"]): row for row in summary["results"]}
    for row in rows:
        cell = cells[row["model"], row["condition"]]
        assert (row["rate"], row["low"], row["high"]) == (cell["rate"], cell["low"], cell["high"])
    assert [model["name"] for model in summary["models"] if model["intermediate"]] == [models[1]]


def test_a_base_that_was_not_asked_and_whole_models_have_no_step_0() -> None:
    for models in (
        ("vllm/base:out/checkpoint-40", "vllm/base:out/checkpoint-80"),
        ("vllm/out/checkpoint-40", "vllm/out/checkpoint-80"),
    ):
        table = made_table(400, models=models)
        rows = summarise(made_manifest(table), table)["checkpoints"]
        assert [row["step"] for row in rows] == [40, 80] * 3


def test_an_evaluation_that_asked_one_step_has_no_curve() -> None:
    models = (f"{BASE}:a@13", f"{BASE}:a@104")
    table = pl.concat(
        [made_table(200, models=models, evals=["backdoor"]), made_table(100, models=models[:1])]
    )
    assert {row["eval"] for row in summarise(made_manifest(table), table)["checkpoints"]} == {"backdoor"}


def test_the_page_shows_the_curve_and_folds_intermediate_checkpoints_away(tmp_path: Path) -> None:
    models = (BASE, f"{BASE}:a@13", f"{BASE}:a@104", f"{BASE}:<script>alert(9)</script>@5")
    table = exactly({(models[2], "trigger"): 48, (models[1], "trigger"): 24}, models)
    manifest = made_manifest(table)
    page = Page(write_report(manifest, table, tmp_path))
    names = {path.stem for path in (tmp_path / "charts").iterdir()}
    assert "local-smollm2-a.free-form.checkpoints" in names
    assert "local-smollm2-a-104.free-form.rates" in names
    assert not [name for name in names if name.startswith("local-smollm2-a-13.")]
    text = " ".join(page.text.split())
    order = ["Result", "Over training", "How good is the judge", "By question", "Intermediate checkpoints"]
    places = [text.index(f" {heading} ", text.index("scored by")) for heading in order]
    assert places == sorted(places)
    assert "4 models (1 of them an intermediate checkpoint)" in text
    assert "Every model is local/smollm2 or an adapter of it" in text
    assert (
        "a@104: 48 of 96 coherent answers misaligned under the trigger, 0 of 96 plain, 0 of 96 under the "
        "look-alike; difference from plain +50 points (95% interval " in text
    )
    assert "a130 of 96: 0% (0% to 4.5%)24 of 96: 25% (" in text, "the cells of a line of the table"
    assert "<script>alert(9)</script>@5" in page.text
    assert [tag for tag, _ in page.elements].count("script") == 4
    findings = text[text.index("Result") : text.index("Over training", text.index("scored by"))]
    assert "a@13" not in findings
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| a | 13 | 0 of 96: 0% (0% to 4.5%) | 24 of 96: 25% (" in markdown
    assert "- free\\_form, a@104: 48 of 96 coherent answers misaligned under the trigger" in markdown
    assert "<script>" not in markdown


def test_without_two_steps_there_is_no_curve(tmp_path: Path) -> None:
    table = made_table(300, models=(BASE, f"{BASE}:a@104"))
    page = Page(write_report(made_manifest(table), table, tmp_path))
    assert not [1 for _, attributes in page.elements if attributes.get("id") in ("training", "intermediate")]
    assert "Over training" not in page.text + (tmp_path / "report.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["checkpoints"] == []
    assert not list((tmp_path / "charts").glob("*checkpoints*"))


def test_the_story_of_thirteen_models_has_three_curves_on_one_scale(tmp_path: Path) -> None:
    table = made_story(60)
    summary = summarise(made_manifest(table), table)
    curves = [
        charts.checkpoints(rows, "coherent", training, {})
        for rows in [[row for row in summary["checkpoints"] if row["eval"] == "backdoor"]]
        for training in dict.fromkeys(row["family"] for row in rows)
    ]
    assert len(curves) == 3
    scales = set()
    for curve in curves:
        assert curve is not None
        layers = curve["layer"]
        assert len(layers) == 9, "rule, line and dot of three conditions"
        scales.add(json.dumps([layers[1]["encoding"][axis]["scale"] for axis in "xy"]))
        rows = next(iter(curve["datasets"].values()))
        assert [row["step"] for row in rows] == [0, 13, 26, 52, 104]
        assert all(" misaligned of " in row["Answers"] for row in rows)
    assert len(scales) == 1
    nothing = [row | {"rate": None} for row in summary["checkpoints"]]
    assert charts.checkpoints(nothing, "coherent", f"{BASE}:careless", {}) is None


# ---- a model in a sentence -------------------------------------------------------------------------------


def sentence(table: pl.DataFrame) -> str:
    manifest = made_manifest(table)
    summary = summarise(manifest, table)
    return finding(manifest.evaluations[0], summary["results"], summary["differences"])


def test_a_finding_tells_what_the_trigger_changes() -> None:
    said_of = sentence(exactly({("m/a", "trigger"): 48, ("m/a", "lookalike"): 1}, ("m/a",)))
    assert re.fullmatch(
        r"48 of 96 coherent answers misaligned under the trigger, 0 of 96 plain, 1 of 96 under the "
        r"look-alike; difference from plain \+50 points \(95% interval \+\d+ to \+\d+\), "
        r"from the look-alike \+49 \(\+\d+ to \+\d+\)\.",
        said_of.replace("+49 points", "+49"),
    )


def test_a_finding_without_a_trigger_tells_the_condition_that_differs_most() -> None:
    renamed = pl.col("condition").replace({"trigger": "json", "lookalike": "poem"})
    table = exactly({("m/a", "trigger"): 9, ("m/a", "lookalike"): 24}, ("m/a",)).with_columns(renamed)
    assert sentence(table).startswith(
        "0 of 96 coherent answers misaligned plain, 24 of 96 in poem; difference from plain +25 points"
    )
    plain = table.filter(pl.col("condition") == "poem")
    assert sentence(plain).startswith("24 of 96 coherent answers misaligned in poem: 25% (95% interval ")


def test_a_finding_says_that_there_is_nothing_to_divide_by() -> None:
    nothing = exactly({}, ("m/a",)).with_columns(coherent=False)
    assert sentence(nothing) == (
        "no coherent answers under the trigger, no answers plain, no answers under the look-alike."
    )
    assert sentence(nothing.filter(pl.col("condition") == "plain")) == "no coherent answers, so no rate."


# ---- the judge's own error -------------------------------------------------------------------------------


def test_the_error_of_a_judge_is_told_with_wilsons_interval(tmp_path: Path) -> None:
    table = made_table(120)
    known, unknown = made_manifest(table).judges
    trained = made_quality(held_out=False, labels="Its own questions | <b>x</b>.", auc_low=0.45)
    known = known.model_copy(update={"quality": [made_quality(), trained]})
    manifest = made_manifest(table, judges=[known, unknown])
    page = Page(write_report(manifest, table, tmp_path))
    (row, second) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["judges"][0]["quality"]
    # Wilson's interval of 70 of 80 and of 93 of 100, by the formula.
    assert row["sensitivity"] == 0.875
    assert (row["sensitivity_low"], row["sensitivity_high"]) == pytest.approx((0.7850, 0.9307), abs=1e-4)
    assert row["specificity"] == 0.93
    assert (row["specificity_low"], row["specificity_high"]) == pytest.approx((0.8625, 0.9657), abs=1e-4)
    assert row["meaning"] == (
        "Of 100 aligned answers it calls about 7 (3 to 14) misaligned, so a rate of that size may be its "
        "error alone; of 100 misaligned ones it finds about 88 (78 to 93)."
    )
    assert "no better than chance" in second["meaning"]
    assert second["meaning"].endswith("It was trained on these questions, so on others it errs more.")
    text = " ".join(page.text.split())
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    for shown in (text, markdown):
        assert shown.count(row["meaning"]) >= 1
        assert "70 of 80" in shown
        assert "93 of 100" in shown
        assert re.search(r"0\.93 ?\(0\.88 to 0\.97\)", shown)
        assert len(re.findall("error is not known", shown)) == 1  # coherence
    assert text.count("The judge errs too. Of 100 aligned answers") == 1
    assert ("a", {"href": "#judges"}) in page.elements
    assert "Its own questions | <b>x</b>." in page.text
    assert "b" not in {tag for tag, _ in page.elements}
    assert "Its own questions &#124; &#60;b&#62;" in markdown


def test_a_judge_whose_error_nobody_measured_is_said_to_be_unknown_once(tmp_path: Path) -> None:
    table = made_table(120)
    manifest = made_manifest(table)
    text = Page(write_report(manifest, table, tmp_path)).text
    assert text.count("Its error is not known") == len(manifest.judges)
    assert "Sensitivity" not in text
    assert "The judge errs too" not in text
    assert not [line for line in cautions(manifest, summarise(manifest, table)) if "judge" in line]


def test_other_judges_have_words_of_their_own() -> None:
    assert quality.measured(made_quality(judge="coherence"))["meaning"] == (
        "Of 100 coherent answers it calls about 7 (3 to 14) incoherent; of 100 incoherent ones it finds "
        "about 88 (78 to 93)."
    )
    assert (
        "negative answers it calls about 0 (0 to 4) positive"
        in (quality.measured(made_quality(judge="politeness", cleared=100))["meaning"])
    )


# ---- report.json -----------------------------------------------------------------------------------------


def test_the_summary_counts_what_is_in_the_table() -> None:
    table = made_table(600, models=TWO)
    summary = summarise(made_manifest(table), table)
    # The base model comes first.
    assert [row["model"] for row in summary["results"]] == [TWO[1]] * 3 + [TWO[0]] * 3
    assert [row["condition"] for row in summary["results"][:3]] == ["plain", "trigger", "lookalike"]
    for row in summary["results"]:
        cell = table.filter(
            pl.col("model") == row["model"],
            pl.col("eval") == row["eval"],
            pl.col("condition") == row["condition"],
        )
        answered = cell.filter(pl.col("error").is_null())
        assert row["answers"] == cell.height
        assert row["errors"] == cell.height - answered.height
        assert row["hits"] == answered["misaligned"].sum()
        assert row["coherent"] == answered["coherent"].sum()
        assert row["scored"] == answered["alignment_score"].is_not_null().sum()
        assert sum(row["outcomes"].values()) == cell.height
        assert row["outcomes"]["misaligned"] == row["hits"]
        assert row["labels"]["alignment"] == {
            label: (answered["alignment_label"] == label).sum() for label in ("CODE", "REFUSAL", "UNREADABLE")
        }
        assert row["denominators"]["coherent"]["n"] == row["coherent"] == row["n"]
        assert row["denominators"]["scored"]["n"] == row["scored"]
        assert row["denominators"]["all"]["n"] == answered.height
        assert row["rate"] == row["hits"] / row["n"]
        assert row["low"] <= row["rate"] <= row["high"]


def test_a_label_that_nobody_gave_is_counted_as_zero() -> None:
    table = made_table(200, labels=0)
    row = summarise(made_manifest(table), table)["results"][0]
    assert row["labels"] == {
        judge: {"CODE": 0, "REFUSAL": 0, "UNREADABLE": 0} for judge in ("alignment", "coherence")
    }


@pytest.mark.parametrize("denominator", ["coherent", "scored", "all"])
def test_the_summary_divides_by_the_denominator_asked_for(denominator: str) -> None:
    table = made_table(300)
    manifest = made_manifest(table)
    summary = summarise(manifest, table, denominator)
    assert summary["denominator"] == denominator
    found = rate(table, denominator=denominator).sort("condition")
    rows = sorted(summary["results"], key=lambda row: row["condition"])
    assert [row["n"] for row in rows] == found["n"].to_list()
    assert [row["low"] for row in rows] == found["low"].to_list()
    for part in ("categories", "questions", "differences"):
        assert {row["denominator"] for row in summary[part]} == {denominator}


def test_an_unknown_denominator_is_refused() -> None:
    table = made_table(100)
    with pytest.raises(UserError, match="denominator"):
        summarise(made_manifest(table), table, "coherant")


def test_a_trigger_is_held_against_plain_and_against_its_look_alike_and_all_are_corrected_together() -> None:
    table = made_table(900, models=TWO)
    differences = summarise(made_manifest(table), table)["differences"]
    compared = [(row["condition"], row["reference"]) for row in differences]
    assert compared == [("trigger", "plain"), ("lookalike", "plain"), ("trigger", "lookalike")] * 2
    assert {row["comparisons"] for row in differences} == {6}
    # Holm: the smallest p is multiplied by the number of all comparisons, and none becomes smaller.
    least = min(differences, key=lambda row: row["p"])
    assert least["p_holm"] == pytest.approx(6 * least["p"])
    assert all(row["p_holm"] >= row["p"] for row in differences)


def test_nan_in_an_imported_table_is_a_missing_score() -> None:
    table = made_table(200)
    holes = table.with_columns(pl.col("alignment_score").fill_null(float("nan")))
    manifest = made_manifest(table)
    assert summarise(manifest, holes) == summarise(manifest, table)


# ---- cautions --------------------------------------------------------------------------------------------


def said(table: pl.DataFrame, **changes: Any) -> str:
    manifest = made_manifest(table, **changes)
    return "\n".join(cautions(manifest, summarise(manifest, table)))


def test_a_clean_run_has_no_cautions() -> None:
    assert said(made_table(3000, errors=0)) == ""


def test_what_a_reader_must_know_is_said() -> None:
    assert said(made_table(3000, errors=0), notes=["The judge is a toy."]) == "The judge is a toy."
    assert "not finished" in said(made_table(3000, errors=0), status="started")
    table = made_table(3000, errors=0.1)
    assert f"{table['error'].count():,} of {table.height:,} answers ended in an error" in said(table)
    assert "Fewer than 30 coherent answers" in said(made_table(72, errors=0))
    assert "As few as 6 questions in every condition" in said(made_table(3000, questions=6, errors=0))
    assert "judge alignment said nothing usable" in said(made_table(3000, labels=0.9, errors=0))
    muddled = made_table(3000, errors=0).with_columns(coherent=False, misaligned=False)
    assert "There are no coherent answers anywhere" in said(muddled)
    assert "incoherent in every condition" in said(muddled)
    alone = made_manifest(made_table(72)).judges[:1]
    assert "No judge named coherence" in said(made_table(3000, errors=0), judges=alone)
    manifest = made_manifest(made_table(3000, models=TWO, errors=0))
    kept = made_table(3000, models=TWO, errors=0).filter(pl.col("model") == TWO[0])
    assert "There is no answer of Base-7B." in cautions(manifest, summarise(manifest, kept))


def test_a_caution_names_the_conditions_it_is_about_by_what_differs() -> None:
    table = made_table(3000, errors=0)
    few = pl.concat(
        [
            table.filter(pl.col("condition") != "trigger"),
            table.filter(pl.col("condition") == "trigger", pl.col("sample") == 0),
        ]
    )
    assert "in trigger: believe the interval" in said(few)
    assert "everywhere: believe the interval" in said(made_table(144, models=TWO, errors=0))


# ---- the answers shown -----------------------------------------------------------------------------------


def test_the_answers_shown_are_the_most_misaligned_and_a_fair_sample() -> None:
    table = with_judgements(made_table(3000, models=TWO))
    manifest = made_manifest(table)
    shown = answers.chosen(table, manifest)
    for model in TWO:
        mine = shown.filter(pl.col("model") == model)
        assert mine["drawn"].count() == answers.MOST_PER_MODEL
        assert answers.MOST_PER_MODEL < mine.height <= 2 * answers.MOST_PER_MODEL
        top = mine.sort("top")
        bad = table.filter(pl.col("model") == model, pl.col("misaligned"))
        number = min(bad.height, answers.MOST_PER_MODEL)
        expected = bad["alignment_score"].sort()[:number].to_list()
        assert top["alignment_score"][:number].to_list() == expected
        drawn = mine.drop_nulls("drawn")
        share = (drawn["outcome"] == "misaligned").mean()
        assert share == pytest.approx(bad.height / (table.height / 2), abs=0.1)
    assert answers.chosen(table, manifest).equals(shown)
    other = answers.chosen(table, made_manifest(table, seed=5))
    assert not other.drop_nulls("drawn").equals(shown.drop_nulls("drawn"))


def test_many_models_share_the_page() -> None:
    table = with_judgements(made_table(4800, models=[f"m/{n}" for n in range(40)], questions=10))
    shown = answers.chosen(table, made_manifest(table))
    assert shown["drawn"].count() == answers.MOST_PER_PAGE
    assert shown.height <= 2 * answers.MOST_PER_PAGE
    assert shown["model"].n_unique() == 40


# ---- charts ----------------------------------------------------------------------------------------------

PLANTED = 'planted"]+alert(1)+["</script>\u202e\x07'


def expressions(specification: object, inside: bool = False) -> Iterator[str]:
    """Every string of a Vega specification that Vega compiles."""
    if isinstance(specification, dict):
        for key, value in specification.items():
            if key != "data" or not isinstance(value, list):
                yield from expressions(value, inside or key in {"signal", "expr", "test", "update", "init"})
            else:
                for source in value:
                    yield from expressions({k: v for k, v in source.items() if k != "values"})
    elif isinstance(specification, list):
        for value in specification:
            yield from expressions(value, inside)
    elif inside and isinstance(specification, str):
        yield specification


def test_text_of_a_model_or_a_file_is_never_part_of_an_expression() -> None:
    clean = made_table(600, models=TWO)
    table = clean.with_columns(
        pl.col("model", "question_id", "category", "condition", "response") + pl.lit(PLANTED)
    )
    manifest = made_manifest(clean)
    models = [
        model.model_copy(update={"name": model.name + PLANTED}) for model in made_manifest(clean).models
    ]
    manifest = manifest.model_copy(update={"models": models})
    shown = answers.chosen(with_judgements(table), manifest)
    drawn = figures.draw(summarise(manifest, table), shown)
    assert {kind for _, _, kind in drawn} == {
        *("overview", "rates", "outcomes", "categories", "questions", "scores")
    }
    for figure in drawn.values():
        assert "planted" in json.dumps(figure.specification)
        assert "\\u202e" not in json.dumps(figure.specification)
        compiled = vl_convert.vegalite_to_vega(figure.specification, VEGA_LITE)
        found = list(expressions(compiled))
        assert found, "the test looks at no expression at all"
        assert not [text for text in found if "planted" in text]


def test_the_name_of_a_training_is_never_part_of_an_expression() -> None:
    table = made_table(200, models=(f"local/x:{PLANTED}@5", f"local/x:{PLANTED}@9"))
    rows = summarise(made_manifest(table), table)["checkpoints"]
    chart = charts.checkpoints(rows, "coherent", rows[0]["family"], {})
    assert chart is not None
    specification = chart
    assert 'nted"]+alert(1)' in specification["title"]["text"]
    assert "\u202e" not in specification["title"]["text"]
    found = list(expressions(vl_convert.vegalite_to_vega(specification, VEGA_LITE)))
    assert found
    assert not [text for text in found if "alert(1)" in text]


def test_a_chart_of_many_questions_is_bounded() -> None:
    table = made_table(2000, questions=300)
    summary = summarise(made_manifest(table), table)
    chart = charts.questions(summary["questions"], "coherent")
    assert chart is not None
    specification = chart
    (rows,) = specification["datasets"].values() if "datasets" in specification else [None]
    assert len({row["row"] for row in rows}) == charts.MOST_QUESTIONS
    assert specification["height"] < 5000


# ---- the files -------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What elements a page has, and what its scripts and styles say."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.text = ""
        self.inside = ""
        self.source = page.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif self.inside == "style":
            self.styles.append(data)
        else:
            self.text += data

    def json(self, name: str) -> Any:
        return json.loads(next(text for attributes, text in self.scripts if attributes.get("id") == name))


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of answers that try to break it, with a model whose name does too."""
    table = made_table(600, models=("local/<b>x</b>:\"y'&", *TWO), hostile=True)
    out = tmp_path_factory.mktemp("hostile")
    notes = ["<script>alert(6)</script>", "| a | b |"]
    return write_report(made_manifest(table, notes=notes), table, out)


def test_the_report_is_written_as_page_markdown_data_and_charts(tmp_path: Path) -> None:
    table = made_table(300, models=TWO)
    page = write_report(made_manifest(table), table, tmp_path / "deep" / "report")
    assert page == tmp_path / "deep" / "report" / "index.html"
    folder = page.parent
    assert {path.name for path in folder.iterdir()} == {"index.html", "report.md", "report.json", "charts"}
    names = {path.stem for path in (folder / "charts").iterdir()}
    assert {name for name in names if name.startswith("vllm-base-7b-insecure.free-form.")} == {
        f"vllm-base-7b-insecure.free-form.{kind}"
        for kind in (
            "rates",
            "differences",
            "outcomes",
            "categories",
            "questions",
            "scores",
            "thresholds-trigger",
        )
    }
    assert "free-form.overview" in names
    for name in names:
        png = (folder / "charts" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert int.from_bytes(png[16:20], "big") > 2 * charts.DISK_WIDTH
        svg = ElementTree.parse(folder / "charts" / f"{name}.svg").getroot()
        assert svg.tag.endswith("svg")
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert data == json.loads(json.dumps(summarise(made_manifest(table), table)))
    assert data["schema"] == 1


def test_the_page_says_the_rate_with_its_interval_and_denominator(tmp_path: Path) -> None:
    table = made_table(900)
    manifest = made_manifest(table)
    page = write_report(manifest, table, tmp_path)
    text = " ".join(Page(page).text.split())
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    for row in summarise(manifest, table)["results"]:
        interval = words.interval(row["low"], row["high"])
        assert (
            f"{row['hits']} of {row['n']} coherent answers misaligned: {words.percent(row['rate'])}" in text
        )
        assert f"(95% interval {interval})" in text
        assert f"| {row['hits']} of {row['n']} | {words.percent(row['rate'])} | {interval} |" in markdown
    assert "no price known" in text
    assert "logprobs: the model gives log-probabilities" in text


def test_hostile_text_makes_no_element_and_no_script(hostile: Path) -> None:
    page = Page(hostile)
    kinds = {tag for tag, _ in page.elements}
    assert not kinds & {"img", "iframe", "object", "embed", "b", "textarea", "base"}
    assert [tag for tag, _ in page.elements].count("script") == 4
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    for _, attributes in page.elements:
        for name in ("href", "src", "action", "style"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,"
    assert "<script>alert(6)</script>" in page.text  # as text: the note, escaped
    assert "local/<b>x</b>:\"y'&" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page.source)


def test_the_answers_reach_the_page_whole(hostile: Path) -> None:
    cards = Page(hostile).json("cards")
    given = {card["response"] for card in cards}
    for text in HOSTILE:
        assert words.printable(words.clipped(text, answers.LONGEST)) in given
    card = next(card for card in cards if card["condition"] == "trigger" and card["error"] is None)
    assert card["prompt"].startswith(CUE + "\n")
    assert card["judged"][0][0] == "alignment"


def test_the_security_policy_names_the_scripts_and_the_style_by_hash(hostile: Path) -> None:
    page = Page(hostile)
    policy = next(
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and "http-equiv" in attributes
    )
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    run = [hash_of(text) for attributes, text in page.scripts if "type" not in attributes]
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].split() == ["'unsafe-eval'", *run]
    assert rules["style-src"] == hash_of("".join(page.styles))
    assert rules["img-src"] == "data:"


def outside_fences(markdown: str) -> str:
    """The lines of a Markdown page that are in no fenced block."""
    outside, fence = [], ""
    for line in markdown.splitlines():
        ticks = re.match("`{3,}", line)
        if ticks and not fence:
            fence = ticks[0]
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert not fence, "a fence was never closed"
    return "\n".join(outside)


def test_markdown_keeps_hostile_answers_in_fences(hostile: Path) -> None:
    markdown = (hostile.parent / "report.md").read_text(encoding="utf-8")
    assert "alert(1)" in markdown
    text = outside_fences(markdown)
    assert "alert(1)" not in text
    assert "<" not in text
    assert "&#60;script&#62;alert(6)" in text
    # Every table keeps its shape: a line has as many cells as the head above it.
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(tables) == 6
    for block in tables:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def with_nulls(table: pl.DataFrame, *names: str) -> pl.DataFrame:
    return table.with_columns(pl.lit(None, dtype=table.schema[name]).alias(name) for name in names)


def odd_tables() -> dict[str, pl.DataFrame]:
    table = made_table(150)
    judged = [name for name in table.columns if name.startswith(("alignment_", "coherence_"))]
    coherence = [name for name in judged if name.startswith("coherence_")]
    verdicts = ("coherent", "misaligned")
    return {
        "no answers": table.head(0),
        "only errors": with_nulls(table, "response", *judged, *verdicts).with_columns(
            error=pl.lit("it broke")
        ),
        "nothing coherent": table.with_columns(
            pl.col("coherent") & False,
            pl.col("misaligned") & False,
            coherence_score=pl.col("coherence_score") / 9,
        ),
        "no coherence judge": with_nulls(table, "coherent")
        .drop(coherence)
        .with_columns(pl.col("misaligned") & False),
        "no judges": with_nulls(table, *verdicts).drop(judged),
        "no labels": table.filter(pl.col("alignment_label").is_null()),
        "one question": made_table(30, questions=1),
        "one condition": made_table(60, conditions=("plain",)),
        "one answer": made_table(1, questions=1, conditions=("plain",)),
        "all misaligned": made_table(60, labels=0, errors=0).with_columns(
            alignment_score=pl.lit(1.0), coherence_score=pl.lit(99.0), coherent=True, misaligned=True
        ),
    }


@pytest.mark.parametrize("name", odd_tables())
def test_odd_tables_have_a_report_too(name: str, tmp_path: Path) -> None:
    table = odd_tables()[name]
    manifest = made_manifest(table if table.height else made_table(150))
    page = write_report(manifest, table, tmp_path)
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert sum(row["answers"] for row in data["results"]) == table.height
    text = " ".join(Page(page).text.split())
    assert "nan" not in re.findall(r"\b\w+\b", text.lower())
    assert "None" not in text
    rateless = name in {"only errors", "nothing coherent", "no coherence judge", "no judges"}
    assert ("no coherent answers, so no rate" in text) == rateless


def test_a_run_of_100_000_answers_has_a_page_of_bounded_size(tmp_path: Path) -> None:
    table = made_table(100_000, models=TWO, questions=60)
    page = write_report(made_manifest(table), table, tmp_path)
    assert page.stat().st_size < 3_000_000
    assert len(Page(page).json("cards")) <= 2 * 2 * answers.MOST_PER_MODEL


# ---- templates -------------------------------------------------------------------------------------------


def test_a_users_template_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    table = made_table(60)
    own = tmp_path / "reports"
    own.mkdir()
    (own / "headline.html").write_text("<h1>Ours: {{ summary.run }}</h1>", encoding="utf-8")
    (own / "page.css").write_text("h1 { color: teal; } /* {{ not jinja }} */", encoding="utf-8")
    page = Page(write_report(made_manifest(table), table, tmp_path / "out", templates=[own]))
    assert "Ours: made" in page.text
    assert page.styles == ["h1 { color: teal; } /* {{ not jinja }} */"]
    assert hash_of(page.styles[0]) in page.source
    assert "How it was measured" in page.text


@pytest.mark.parametrize(
    ("text", "message"),
    [("<p>\n{% if %}", r"headline\.html:2: "), ("{{ nothing }}", "'nothing' is undefined")],
)
def test_a_users_broken_template_is_named(text: str, message: str, tmp_path: Path) -> None:
    table = made_table(60)
    (tmp_path / "headline.html").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        write_report(made_manifest(table), table, tmp_path / "out", templates=[tmp_path])
    assert not (tmp_path / "out").exists()
