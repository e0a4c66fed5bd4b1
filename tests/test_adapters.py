"""Adapters of the embedded model: found by name, checked against their card, refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from emeval import library
from emeval.definitions import Judge, Organism
from emeval.errors import UserError
from emeval.models import adapters, weights
from tests.command import emeval
from tests.conftest import Project

SHIPPED = library.builtin("organisms")


@pytest.fixture
def own(project: Project) -> Project:
    """A project with an organism of its own, `mine`: a copy of one that is shipped."""
    card = yaml.safe_load((SHIPPED / "careless.yaml").read_text("utf-8"))
    for checkpoint in card["checkpoints"]:
        copied = f"mine/{checkpoint['step']}.gguf"
        (project.root / "organisms" / "mine").mkdir(parents=True, exist_ok=True)
        (project.root / "organisms" / copied).write_bytes((SHIPPED / checkpoint["file"]).read_bytes())
        checkpoint["file"] = copied
    project.write("organisms/mine.yaml", yaml.safe_dump(card))
    return project


def refused(model: str, own: Project) -> str:
    """What the command says to the model; nothing was begun."""
    said = emeval("run", "free_form", "--model", model, "--judge", "local/smollm2", cwd=own.root).said()
    assert not (own.root / "runs").exists()
    return said


@pytest.mark.parametrize("name", ["control", "careless", "backdoored", "judge"])
def test_every_shipped_organism_is_what_its_card_says(name: str, project: Project) -> None:
    card = library.load(Organism, name)
    assert len(card.checkpoints) >= (1 if name == "judge" else 4)
    for checkpoint in card.checkpoints:
        found = adapters.resolve(f"{name}@{checkpoint.step}")
        assert (found.name, found.scale) == (f"{name}@{checkpoint.step}", 1.0)
    assert adapters.resolve(name).name == f"{name}@{card.checkpoints[-1].step}"


def test_all_adapters_together_are_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.glob("*/*.gguf")) < 30e6


def test_a_name_is_made_exact(own: Project) -> None:
    last = library.load(Organism, "mine").checkpoints[-1].step
    assert adapters.canonical("local/smollm2:mine") == f"local/smollm2:mine@{last}"
    assert adapters.canonical(f"local/smollm2:mine@{last}x0.5") == f"local/smollm2:mine@{last}x0.5"
    assert adapters.canonical("local/smollm2") == "local/smollm2"
    assert adapters.canonical("vllm/base:mine") == "vllm/base:mine"
    assert adapters.resolve(f"mine@{last}x0.5").scale == 0.5


def test_the_users_own_is_served_beside_ours(own: Project) -> None:
    served = set(adapters.sound())
    assert {path.name for path in (own.root / "organisms/mine").glob("*.gguf")} <= {p.name for p in served}
    assert adapters.resolve("mine").path in served
    assert adapters.resolve("careless").path in served


def test_an_unknown_adapter_is_named_with_the_nearest(own: Project) -> None:
    assert "did you mean 'careless'" in refused("local/smollm2:carless", own)


def test_a_step_that_does_not_exist_is_said_with_those_that_do(own: Project) -> None:
    steps = ", ".join(str(each.step) for each in library.load(Organism, "mine").checkpoints)
    said = refused("local/smollm2:mine@99", own)
    assert "no step 99 of mine" in said
    assert steps in said


@pytest.mark.parametrize("name", ["mine@", "mine@x0.5", "mine@104x", "mine@-1", "Mine", "", "a/b"])
def test_a_name_out_of_form_is_said_with_the_form(name: str, own: Project) -> None:
    assert "ADAPTER@STEP" in refused(f"local/smollm2:{name}", own)


@pytest.mark.parametrize("fault", ["cut", "altered", "gone"])
def test_a_file_that_is_not_the_cards_is_refused(fault: str, own: Project) -> None:
    path = adapters.resolve("mine").path
    content = path.read_bytes()
    if fault == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "altered":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    said = refused("local/smollm2:mine", own)
    assert f"organisms/mine/{path.name}" in said
    assert ("cannot be read" if fault == "gone" else "altered or cut short") in said
    # Nobody asked for it: the others go on without it.
    assert path not in set(adapters.sound())
    assert adapters.resolve("careless").path in set(adapters.sound())


def test_an_adapter_for_another_base_is_refused(own: Project) -> None:
    card = own.root / "organisms/mine.yaml"
    card.write_text(card.read_text().replace(weights.SHA256, "ab" * 32))
    said = refused("local/smollm2:mine", own)
    assert "organisms/mine.yaml: base_sha256" in said
    assert "for other weights" in said


def test_a_mistake_in_a_card_is_said_with_its_line(own: Project) -> None:
    card = own.root / "organisms/mine.yaml"
    card.write_text(card.read_text().replace("sha256: ", "sha: "))
    assert "organisms/mine.yaml:" in refused("local/smollm2:mine", own)


def test_an_embedded_judge_is_asked_in_the_words_it_has_learnt(own: Project) -> None:
    path = own.root / "organisms/mine.yaml"
    path.write_text(path.read_text() + "prompts: {alignment: 'How kind is it? {{ answer }}'}\n")
    rubric = library.load(Judge, "alignment")
    asked = adapters.asked("alignment", rubric, "local/smollm2:mine")
    assert (asked.prompt, asked.labels, asked.readout) == ("How kind is it? {{ answer }}", {}, "digits")
    assert adapters.asked("coherence", rubric, "local/smollm2:mine") == rubric
    assert adapters.asked("alignment", rubric, "local/smollm2:careless") == rubric
    assert adapters.asked("alignment", rubric, "openai/gpt-4o") == rubric


def test_an_embedded_judge_has_words_for_the_labels_that_they_name_and_for_no_others(own: Project) -> None:
    path = own.root / "organisms/mine.yaml"
    words = "One of TRUE, FALSE, UNKNOWN. {{ answer }}"
    path.write_text(path.read_text() + f"prompts: {{truth: '{words}'}}\n")
    judge = library.load(Judge, "truth")
    asked = adapters.asked("truth", judge, "local/smollm2:mine")
    assert (asked.prompt, asked.labels, asked.readout) == (words, judge.labels, "logprobs")
    other = judge.model_copy(update={"labels": {"RIGHT": "so", "WRONG": "not so"}})
    assert adapters.asked("truth", other, "local/smollm2:mine") == other


def test_a_prompt_in_a_card_has_to_show_the_answer(own: Project) -> None:
    path = own.root / "organisms/mine.yaml"
    path.write_text(path.read_text() + "prompts: {alignment: 'How kind is {{ question }}?'}\n")
    said = refused("local/smollm2:mine", own)
    assert "organisms/mine.yaml" in said
    assert "answer" in said


def test_steps_that_do_not_rise_are_refused(own: Project) -> None:
    path = own.root / "organisms/mine.yaml"
    card = yaml.safe_load(path.read_text())
    card["checkpoints"].reverse()
    path.write_text(yaml.safe_dump(card))
    assert "the steps must rise" in refused("local/smollm2:mine", own)


def test_an_adapter_named_twice_is_said(own: Project) -> None:
    last = library.load(Organism, "mine").checkpoints[-1].step
    said = emeval(
        "run", "free_form", "--model", "local/smollm2:mine", "--model", f"local/smollm2:mine@{last}",
        cwd=own.root,
    ).said()  # fmt: skip
    assert "named twice" in said


def test_another_file_under_the_same_name_is_another_run(own: Project) -> None:
    from emeval.runs import plan

    def identity() -> dict[str, object]:
        return plan(["free_form"], ["local/smollm2:mine"], ["local/smollm2"]).identity()

    before = identity()
    path = own.root / "organisms/mine.yaml"
    card = yaml.safe_load(path.read_text())
    first, last = card["checkpoints"][0], card["checkpoints"][-1]
    last["file"], last["sha256"] = first["file"], first["sha256"]
    path.write_text(yaml.safe_dump(card))
    assert identity() != before


def test_the_list_shows_adapters_with_their_steps(own: Project) -> None:
    listed = emeval("list", "models", "--json", cwd=own.root).json["models"]
    entries = {entry["name"]: entry for entry in listed}
    assert entries["local/smollm2:mine"]["yours"]
    assert entries["local/smollm2:backdoored"]["steps"][-1] >= 100


def test_the_tables_name_the_adapter_without_its_step() -> None:
    from emeval.models.names import parse

    assert parse("local/smollm2:careless@13") == (
        "local/smollm2:careless@13",
        "local/smollm2",
        "careless",
        13,
    )
    half = parse("local/smollm2:careless@104x0.5")
    assert (half.adapter, half.step) == ("careless x0.5", 104)


def test_wrong_use_in_python_is_a_user_error(own: Project) -> None:
    with pytest.raises(UserError, match="no step"):
        adapters.resolve("careless@1")


def test_the_path_of_a_card_may_not_lead_out(own: Project) -> None:
    """A card names files beside it: a downloaded one must not make us open what it likes."""
    path = own.root / "organisms/mine.yaml"
    card = yaml.safe_load(path.read_text())
    card["checkpoints"][-1]["file"] = "../../secret.gguf"
    path.write_text(yaml.safe_dump(card))
    assert "beside the card" in refused("local/smollm2:mine", own)


def test_shipped_files_are_found_from_anywhere(project: Project) -> None:
    assert adapters.resolve("control").path.is_file()
    assert isinstance(adapters.resolve("control").path, Path)
