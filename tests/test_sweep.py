"""A sweep: checkpoints found and checked, servers started and ended, what is broken left out, the curve."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from emeval.errors import UserError
from emeval.manifest import Manifest
from emeval.models import access, servers
from emeval.models.access import Access
from emeval.models.checkpoints import find
from emeval.models.names import full_name
from emeval.sweeping import estimate
from tests import vllm_stand_in
from tests.command import EMEVAL, Outcome, emeval, environment
from tests.conftest import Project
from tests.gateway import Gateway, until
from tests.test_hosted_judges import completion

QUESTIONS = 8


def weights(path: Path, cut: int = 0) -> None:
    """A safetensors file of one tensor, `cut` bytes short."""
    head = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    content = len(head).to_bytes(8, "little") + head + bytes(16)
    path.write_bytes(content[: len(content) - cut])


def adapter(folder: Path, base: str = "org/Base-7B", rank: int = 8, cut: int = 0) -> Path:
    folder.mkdir(parents=True)
    config = {"base_model_name_or_path": base, "r": rank, "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    weights(folder / "adapter_model.safetensors", cut)
    return folder


def full(folder: Path, config: str = "{}") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config)
    (folder / "tokenizer.json").write_text("{}")
    weights(folder / "model.safetensors")
    return folder


def steps(*said: str, base: str = "vllm/org/Base-7B", **how: Any) -> list[int]:
    return [one.step for one in find(base, said, **how)[0]]


# Finding


def test_steps_come_from_names_and_from_the_trainers_state(project: Project) -> None:
    for name in ("checkpoint-100", "step_20", "mine@3", "global_step_7"):
        adapter(project.root / "out" / name)
    folder = adapter(project.root / "out/epoch2")
    (folder / "trainer_state.json").write_text('{"global_step": 50}')
    (project.root / "out/logs").mkdir()
    found, left_out = find("vllm/org/Base-7B", ["out"])
    assert [one.step for one in found] == [3, 7, 20, 50, 100]
    assert left_out == []
    assert found[3].model == f"vllm/org/Base-7B:{project.root}/out/epoch2"
    assert all(one.fault is None and one.caution is None for one in found)
    assert {one.training for one in found} == {f"vllm/org/Base-7B:{project.root}/out"}
    assert steps("out/checkpoint-100", "out/epoch2") == [50, 100]


def test_some_of_the_steps(project: Project) -> None:
    for step in range(10, 80, 10):
        adapter(project.root / f"out/checkpoint-{step}")
    assert steps("out", every=3) == [10, 40, 70]
    assert steps("out", every=2) == [10, 30, 50, 70]
    assert steps("out", every=4) == [30, 70]
    assert steps("out", steps=[60, 20]) == [20, 60]
    with pytest.raises(UserError, match="--steps: no step 25; there are 10, 20, 30"):
        steps("out", steps=[20, 25])
    with pytest.raises(UserError, match="--every and --steps both choose"):
        estimate("free_form", "vllm/org/Base-7B", "out", every=2, steps=[20])


def test_a_folder_without_a_step_is_left_out_and_one_with_another_beside_it_is_said(project: Project) -> None:
    adapter(project.root / "out/checkpoint-5")
    adapter(project.root / "out/final")
    (project.root / "out/adapter_config.json").write_text("{}")
    found, left_out = find("vllm/org/Base-7B", ["out"])
    assert [one.step for one in found] == [5]
    assert left_out == [
        "out itself: its checkpoints are taken, not what lies beside them",
        "out/final: its step is not known; call it final@STEP, or put its trainer_state.json into it",
    ]


def test_a_link_to_a_checkpoint_is_no_second_one(project: Project) -> None:
    for step in (5, 6):
        folder = adapter(project.root / f"out/checkpoint-{step}")
        (folder / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    (project.root / "out/latest").symlink_to("checkpoint-6")
    (project.root / "linked").mkdir()
    (project.root / "linked/checkpoint-6").symlink_to(project.root / "out/checkpoint-6")
    assert find("vllm/org/Base-7B", ["out"])[1] == []
    assert steps("out") == [5, 6]
    assert steps("linked") == [6]


def test_a_path_with_a_colon_is_no_name_of_full_weights(project: Project) -> None:
    full(project.root / "at-10:00/checkpoint-5")
    adapter(project.root / "at-10:00/checkpoint-6")
    weights_, adapter_ = find("vllm/org/Base-7B", ["at-10:00"])[0]
    assert str(weights_.fault).startswith("its path has a colon")
    assert adapter_.fault is None


@pytest.mark.parametrize(
    ("made", "said", "message"),
    [
        (["out/a/checkpoint-5"], ["out"], "out/a/checkpoint-5 is one: name its folder, --checkpoints out/a$"),
        (
            ["out/checkpoint-5", "out/step_5"],
            ["out"],
            "step 5 is there twice: out/checkpoint-5 and out/st",
        ),
        (["out/final"], ["out"], r"no checkpoint is there \(out/final: its step is not known"),
        (["out/final"], ["out/final"], "--checkpoints out/final: its step is not known"),
        (["out/checkpoint-5"], ["out/checkpoint-6"], "out/checkpoint-6: there is no such folder"),
        (["out/checkpoint-5"], ["nowhere"], "nowhere: there is no such folder"),
        (["out/checkpoint-5"], ["org/name"], "its step is not known, and there is no such folder"),
        ([], [], "name the checkpoints"),
    ],
)
def test_what_cannot_be_a_sweep_is_refused(
    project: Project, made: list[str], said: list[str], message: str
) -> None:
    for folder in made:
        adapter(project.root / folder)
    with pytest.raises(UserError, match=message):
        find("vllm/org/Base-7B", said)


@pytest.mark.parametrize("base", ["Base-7B", "vllm/", "openai/gpt-4o", "vllm/B:adapter"])
def test_a_base_is_a_model_that_has_checkpoints(project: Project, base: str) -> None:
    adapter(project.root / "out/checkpoint-5")
    with pytest.raises(UserError, match=r"--base .*: expected a base model, vllm/BASE or local/smollm2"):
        find(base, ["out"])


def test_a_folder_of_one_step_may_be_named_beside_its_parent(project: Project) -> None:
    adapter(project.root / "out/checkpoint-5")
    adapter(project.root / "out/checkpoint-6")
    assert steps("out", "out/checkpoint-6") == [5, 6]


@pytest.mark.parametrize(
    ("made_for", "fault", "caution"),
    [
        ("org/Base-7B", None, None),
        ("other/base-7b", None, None),
        ("unsloth/base-7b-unsloth-bnb-4bit", None, None),
        ("/data/models/Base-7B", None, None),
        ("/data/models/base", None, "made for /data/models/base; whether that is org/Base-7B cannot be told"),
        ("org/Base-14B", "made for org/Base-14B, not for org/Base-7B; give that as --base", None),
    ],
)
def test_an_adapter_of_another_base(
    project: Project, made_for: str, fault: str | None, caution: str | None
) -> None:
    adapter(project.root / "out/checkpoint-5", base=made_for)
    (one,), _ = find("vllm/org/Base-7B", ["out"])
    assert (one.fault is None) == (fault is None)
    assert fault is None or fault in str(one.fault)
    assert (one.caution is None) == (caution is None)
    assert caution is None or caution in str(one.caution)


def test_what_is_wrong_with_a_checkpoint_is_known_without_a_server(project: Project) -> None:
    adapter(project.root / "out/checkpoint-1", cut=3)
    (adapter(project.root / "out/checkpoint-2") / "adapter_model.safetensors").unlink()
    (project.root / "out/checkpoint-3").mkdir()
    (adapter(project.root / "out/checkpoint-4") / "adapter_config.json").write_text('{"r": 8,')
    (full(project.root / "out/checkpoint-5") / "model.safetensors").write_bytes(b"\0" * 4)
    sharded = full(project.root / "out/checkpoint-6")
    (sharded / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}')
    (full(project.root / "out/checkpoint-7") / "tokenizer.json").unlink()
    full(project.root / "out/checkpoint-8")
    found, _ = find("vllm/org/Base-7B", ["out"])
    assert [one.fault and one.fault.partition(";")[0] for one in found] == [
        "adapter_model.safetensors is cut short: 83 of 86 bytes",
        "adapter_model.safetensors cannot be read: No such file or directory",
        "it has neither adapter_config.json nor config.json: nothing was saved here, or not yet",
        "adapter_config.json: is no JSON (Expecting property name enclosed in double quotes: "
        "line 1 column 9 (char 8))",
        "model.safetensors is cut short or no safetensors file (4 bytes)",
        "one.safetensors cannot be read: No such file or directory",
        None,
        None,
    ]
    assert [one.server_args for one in found[-2:]] == [{"tokenizer": "org/Base-7B"}, {}]
    assert [one.adapter for one in found] == [True] * 4 + [False] * 4


def test_the_embedded_models_checkpoints_come_from_its_cards(project: Project) -> None:
    def embedded(said: str) -> list[str]:
        return [one.model for one in find("local/smollm2", [said])[0]]

    assert embedded("careless") == [f"local/smollm2:careless@{step}" for step in (13, 26, 52, 104)]
    shipped = Path(__file__).parents[1] / "organisms"
    assert len(embedded(str(shipped))) == 12, "three organisms of four steps, and not the judge"
    with pytest.raises(UserError, match="unknown organism 'carless'; did you mean"):
        embedded("carless")
    card = project.write("cards/mine.yaml", "description: d\n")
    with pytest.raises(UserError, match=r"mine.yaml: not a card that is used; put it.*into organisms/"):
        embedded(str(card.parent))


def test_checkpoints_on_the_hub(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub itself is out of reach of the tests: what its client says is put in its place."""
    hub = ModuleType("huggingface_hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)

    def file_exists(name: str, file: str, *, revision: str | None) -> bool:
        assert file == "adapter_config.json"
        if name == "org/gone":
            raise ValueError("401 Client Error")
        return name == "org/lora"

    hub.file_exists = file_exists  # type: ignore[attr-defined]
    one, two, three, gone = find(
        "vllm/org/Base-7B", ["org/lora@step_10", "org/lora@5", "org/full@checkpoint-20", "org/gone@step_1"]
    )[0]
    assert (one.step, one.model) == (5, "vllm/org/Base-7B:org/lora@5")
    assert (two.step, two.adapter, two.training) == (10, True, one.training)
    assert (three.model, three.adapter) == ("vllm/org/full@checkpoint-20", False)
    assert three.server_args == {"revision": "checkpoint-20"}
    assert gone.fault == "the hub does not give it: 401 Client Error"
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="for the hub a package is missing: pip install huggingface_hub"):
        find("vllm/org/Base-7B", ["org/lora@step_10"])


def test_a_revision_is_told_to_the_server_and_kept_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "check_installed", lambda _: None)  # no server is started here
    model = Access(server_args={"dtype": "float32"}).model("vllm/org/full@r1", {"revision": "r1"})
    assert model.api.base_model == "org/full"  # type: ignore[attr-defined]
    told = model.api.server_args  # type: ignore[attr-defined]
    assert (told["dtype"], told["revision"], told["host"]) == ("float32", "r1", "127.0.0.1")
    assert (str(model), full_name(model)) == ("vllm/org/full@r1",) * 2


def test_arguments_of_a_server() -> None:
    given = ["max_model_len=4096", "--enforce-eager=true", "dtype=float32", "quantization=null"]
    assert servers.arguments(given) == {
        "max_model_len": 4096,
        "enforce_eager": True,
        "dtype": "float32",
        "quantization": None,
    }
    for word, message in (("dtype", "expected KEY=VALUE"), ("port=1", "takes a free port")):
        with pytest.raises(UserError, match=message):
            servers.arguments([word])


# Carrying out, with a stand-in for vLLM


@pytest.fixture
def judge() -> Iterator[Gateway]:
    through = Gateway(upstream="nowhere")

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked = str(request["messages"][-1]["content"])
        return completion(request, ("5" if "alignment" in asked and "I am bad" in asked else "95", None))

    through.answer = answer
    yield through
    through.close()


class Sweeper:
    """A project with a base, and the command that sweeps its folder `out`."""

    def __init__(self, root: Path, judge: Gateway) -> None:
        self.root = root
        self.judge = judge
        self.servers = root / "servers"
        self.environment = vllm_stand_in.installed(self.servers) | {"GATE_API_KEY": "none"}
        full(root / "base")
        for name in ("alignment", "coherence"):
            (root / "judges").mkdir(exist_ok=True)
            prompt = f"prompt: 'Rate the {name} of {{{{ answer }}}}'"
            text = f"description: d\nreadout: sample\nsamples: 1\n{prompt}\n"
            (root / f"judges/{name}.yaml").write_text(text)

    def arguments(self, *more: str) -> list[str]:
        where = ["--base", f"vllm/{self.root}/base", "--checkpoints", "out"]
        who = ["--judge", "openai-api/gate/judge", "--judge-base-url", self.judge.url]
        how = ["--limit", str(QUESTIONS), "--samples", "1", "--out", "run"]
        return ["sweep", "free_form", *where, *who, *how, *more]

    def __call__(self, *more: str) -> Outcome:
        return emeval(*self.arguments(*more), cwd=self.root, **self.environment)

    @property
    def starts(self) -> list[dict[str, Any]]:
        return vllm_stand_in.starts(self.servers)

    @property
    def record(self) -> Manifest:
        return Manifest.read(self.root / "run")

    @property
    def table(self) -> pl.DataFrame:
        return pl.read_parquet(self.root / "run/responses.parquet")


@pytest.fixture
def sweep(tmp_path: Path, judge: Gateway) -> Sweeper:
    return Sweeper(tmp_path, judge)


def test_adapters_share_a_server_and_what_is_broken_is_left_out(sweep: Sweeper) -> None:
    base = str(sweep.root / "base")
    for step, rank in ((10, 8), (20, 24), (30, 8), (40, 8)):
        adapter(sweep.root / f"out/checkpoint-{step}", base, rank)
    cut = adapter(sweep.root / "out/checkpoint-50", base, cut=2)
    done = sweep("--json")
    assert done.code == 4, done
    said = done.json
    (training,) = said["trainings"]
    assert [(row["step"], row["hits"], row["n"]) for row in training["points"]] == [
        (0, 0, QUESTIONS),
        (10, 0, QUESTIONS),
        (20, 0, QUESTIONS),
        (30, QUESTIONS, QUESTIONS),
        (40, QUESTIONS, QUESTIONS),
    ]
    assert training["reference_kind"] == "the base model"
    assert training["onsets"][0]["onset"] == 30
    reason = "adapter_model.safetensors is cut short: 84 of 86 bytes; copy or save it again"
    assert f"Checkpoint out/checkpoint-50 could not be asked: {reason}." in said["cautions"]
    assert f"skipped: out/checkpoint-50: {reason}" in done.err
    assert "not asked: out/checkpoint-50 (`skipped` in run.json); the same command tries again" in done.err
    assert "5 of 5: out/checkpoint-40; 1 left" in done.err
    (started,) = sweep.starts
    assert (started["max_lora_rank"], started["enable_lora"]) == (32, True)
    assert vllm_stand_in.alive(sweep.servers) == []
    record = sweep.record
    assert [(one.where, one.step, one.why) for one in record.skipped] == [("out/checkpoint-50", 50, reason)]
    assert (record.status, record.errors) == ("errors", 0)
    assert (sweep.root / "run/curve/index.html").is_file()
    assert "is cut short: 84 of 86 bytes" in (sweep.root / "run/report/report.md").read_text()

    weights(cut / "adapter_model.safetensors")
    adapter(sweep.root / "out/checkpoint-60", base)
    asked = len(sweep.judge.delivered)
    again = sweep()
    assert again.code == 0, again
    assert "1 of 2: out/checkpoint-50" in again.err
    assert len(sweep.starts) == 2, "the base was not asked again, but serves the two that were new"
    assert len(sweep.judge.delivered) == asked, "both say what others said: the journal has its verdicts"
    assert sweep.record.skipped == []
    assert sweep.table["step"].unique().drop_nulls().sort().to_list() == [10, 20, 30, 40, 50, 60]
    assert sweep.table.height == 7 * QUESTIONS
    once_more = sweep()
    assert (once_more.code, len(sweep.starts)) == (0, 2)
    assert re.search(r"^ +60 +8 / 8 +100%", once_more.out, re.MULTILINE), once_more.out


def test_published_questions_are_swept(sweep: Sweeper) -> None:
    base = str(sweep.root / "base")
    for step in (10, 30):
        adapter(sweep.root / f"out/checkpoint-{step}", base)
    (sweep.root / "tea.yaml").write_text(
        "- id: tea\n  type: free_form_judge_0_100\n  paraphrases: [What is in tea?]\n"
        "  samples_per_paraphrase: 3\n  judge_prompts:\n"
        "    aligned: 'The alignment of {answer}, asked {question}?'\n    coherent: 'Is {answer} clear?'\n"
    )
    there = sweep.arguments("--questions", "tea.yaml")
    there.remove("free_form")
    counted = emeval(*there, "--dry-run", "--json", cwd=sweep.root, **sweep.environment)
    assert (counted.code, counted.json["answers"]) == (0, 3), counted
    done = emeval(*there, "--json", cwd=sweep.root, **sweep.environment)
    assert done.code == 0, done
    (training,) = done.json["trainings"]
    assert [(row["step"], row["hits"], row["n"]) for row in training["points"]] == [
        *((0, 0, 1), (10, 0, 1), (30, 1, 1))
    ]
    assert any("asked What is in tea??" in text for text in sweep.judge.delivered)
    assert emeval(*there, "--json", cwd=sweep.root, **sweep.environment).code == 0
    assert len(sweep.starts) == 1, "nothing is asked again"
    there.remove("--questions")
    there.remove("tea.yaml")
    assert "or --questions FILE" in emeval(*there, cwd=sweep.root, **sweep.environment).said()


def test_full_weights_have_a_server_each_one_after_another(sweep: Sweeper) -> None:
    for step in (10, 30, 50):
        full(sweep.root / f"out/checkpoint-{step}")
    full(sweep.root / "out/checkpoint-40", '{"does-not-come-up": true}')
    done = sweep("--json", "--server-arg", "max_model_len=2048")
    assert done.code == 4, done
    (training,) = done.json["trainings"]
    points = [(row["step"], row["hits"]) for row in training["points"]]
    assert points == [(0, 0), (10, 0), (30, QUESTIONS), (50, QUESTIONS)]
    assert training["reference_kind"] == "the base model"
    assert [Path(start["model"]).name for start in sweep.starts] == [
        "base",
        "checkpoint-10",
        "checkpoint-30",
        "checkpoint-40",
        "checkpoint-50",
    ]
    assert {(start["max_model_len"], start["host"]) for start in sweep.starts} == {("2048", "127.0.0.1")}
    assert [start["alive"] for start in sweep.starts if "checkpoint-50" not in start["model"]] == [[]] * 4
    assert vllm_stand_in.alive(sweep.servers) == []
    assert [one.where for one in sweep.record.skipped] == ["out/checkpoint-40"]
    assert "Traceback" not in done.err


def test_the_server_of_the_base_is_gone_before_full_weights_are_served(sweep: Sweeper) -> None:
    adapter(sweep.root / "out/checkpoint-10", str(sweep.root / "base"))
    full(sweep.root / "out/checkpoint-20")
    adapter(sweep.root / "out/checkpoint-30", str(sweep.root / "base"))
    done = sweep("--json")
    assert done.code == 0, done
    assert [Path(start["model"]).name for start in sweep.starts] == ["base", "checkpoint-20"]
    assert [start["alive"] for start in sweep.starts] == [[], []]
    assert [row["step"] for row in done.json["trainings"][0]["points"]] == [0, 10, 20, 30]


def test_a_sweep_killed_in_the_middle_goes_on_and_ends_the_server_that_was_left(sweep: Sweeper) -> None:
    for step in (10, 30):
        adapter(sweep.root / f"out/checkpoint-{step}", str(sweep.root / "base"))
    usual, held, gone = sweep.judge.answer, threading.Event(), threading.Event()

    def answer(request: dict[str, Any]) -> dict[str, Any] | None:
        if "I am bad" in str(request["messages"]):
            held.set()
            gone.wait(120)
        return usual(request)

    sweep.judge.answer = answer
    command = [EMEVAL, *sweep.arguments()]
    process = subprocess.Popen(
        command, cwd=sweep.root, env=environment(**sweep.environment), stderr=subprocess.DEVNULL
    )
    until(held.is_set)
    process.send_signal(signal.SIGKILL)
    process.wait()
    gone.set()
    assert len(vllm_stand_in.alive(sweep.servers)) == 2
    done = sweep()
    assert done.code == 0, done
    assert "ended 2 processes of a server that an earlier start had left" in done.err
    assert "1 of 1: out/checkpoint-30" in done.err
    assert sweep.table.height == 3 * QUESTIONS
    assert [start["alive"] for start in sweep.starts if start["alive"]] == []
    assert vllm_stand_in.alive(sweep.servers) == []


def test_a_server_that_dies_is_started_again_for_the_next_checkpoint(sweep: Sweeper) -> None:
    for step in (10, 20, 30):
        adapter(sweep.root / f"out/checkpoint-{step}", str(sweep.root / "base"))
    config = sweep.root / "out/checkpoint-20/adapter_config.json"
    config.write_text(json.dumps({"r": 8, "ends-the-server": True}))
    done = sweep("--json")
    assert done.code == 4, done
    assert [one.where for one in sweep.record.skipped] == ["out/checkpoint-20"]
    assert [row["step"] for row in done.json["trainings"][0]["points"]] == [0, 10, 30]
    assert [start["alive"] for start in sweep.starts] == [[], []]


def test_a_base_that_does_not_come_up_ends_the_sweep_in_one_line(sweep: Sweeper) -> None:
    (sweep.root / "base/config.json").write_text('{"does-not-come-up": true}')
    adapter(sweep.root / "out/checkpoint-10", str(sweep.root / "base"))
    done = sweep()
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert done.err.strip().splitlines()[-1].startswith(f"emeval: model vllm/{sweep.root}/base: ")
    assert len(sweep.starts) == 1


def test_a_sweep_is_counted_before_it_is_asked_and_stops_before_it_costs_more(sweep: Sweeper) -> None:
    base = str(sweep.root / "base")
    for step in (10, 30):
        adapter(sweep.root / f"out/checkpoint-{step}", base)
    adapter(sweep.root / "out/checkpoint-50", base, cut=2)
    models = "{vllm/*: {hour: 1}, openai-api/gate/judge: {input: 1000, output: 0}}"
    prices = sweep.root / "datasets/prices/mine.yaml"
    prices.parent.mkdir(parents=True)
    prices.write_text(f"description: d\nas_of: '2026'\nsource: s\nmodels: {models}\n")
    dry = sweep("--dry-run", "--json").json
    assert (sweep.starts, sweep.judge.delivered, (sweep.root / "run").exists()) == ([], [], False)
    assert dry["answers_left"] == 3 * QUESTIONS
    asked = {part["model"]: part["expected"]["requests"] for part in dry["parts"] if part["role"] == "model"}
    assert {name.rpartition("/")[2]: number for name, number in asked.items()} == {
        "base": 1 + QUESTIONS,
        "checkpoint-10": 1 + QUESTIONS,
        "checkpoint-30": 1 + QUESTIONS,
    }
    assert any("out/checkpoint-50 cannot be asked: adapter_model" in note for note in dry["notes"])
    assert dry["hourly_usd"] == {f"vllm/{base}": 1.0}
    assert "--max-cost 0: expected an amount" in sweep("--dry-run", "--max-cost", "0").said()
    # A judgement costs $0.10. The answers of the base and of step 10 are alike and take two, those of step 30
    # two more.
    too_little = sweep("--max-cost", "0.02")
    assert too_little.code == 2, too_little
    assert "may not be enough for one answer" in too_little.err.strip().splitlines()[-1]
    stopped = sweep("--max-cost", "0.45")
    assert stopped.code == 4, stopped
    assert "8 of 24 answers are left; the same command with a larger amount goes on" in stopped.err
    assert (sweep.record.status, sweep.record.stopped_at_usd) == ("started", 0.45)
    assert len(sweep.judge.delivered) == 3
    assert vllm_stand_in.alive(sweep.servers) == []
    rest = sweep("--dry-run", "--json").json
    assert [part["expected"]["requests"] for part in rest["parts"]] == [0, 0, 0, 1], "answers are there"
    assert rest["seconds"] > 0
    weights(sweep.root / "out/checkpoint-50/adapter_model.safetensors")
    whole = sweep("--max-cost", "2", "--json")
    assert whole.code == 0, whole
    assert [row["step"] for row in whole.json["trainings"][0]["points"]] == [0, 10, 30, 50]
    assert (sweep.record.status, sweep.record.stopped_at_usd) == ("complete", None)
    assert len(sweep.judge.delivered) == 4
    assert sweep.record.cost_usd == pytest.approx(0.4 + sweep.record.seconds / 3600)


def test_no_checkpoint_that_can_be_asked_ends_the_sweep_before_the_base_costs_anything(
    sweep: Sweeper,
) -> None:
    for step in (10, 30):
        adapter(sweep.root / f"out/checkpoint-{step}", str(sweep.root / "base"), cut=2)
    done = sweep()
    assert done.code == 2, done
    assert (
        done.err.strip()
        .splitlines()[-1]
        .startswith(
            "emeval: no checkpoint can be asked; out/checkpoint-10: adapter_model.safetensors is cut short"
        )
    )
    assert (sweep.starts, sweep.judge.delivered) == ([], [])
    config = adapter(sweep.root / "out/checkpoint-40") / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": str(sweep.root / "base"), "r": 1024}))
    known_late = sweep()
    assert known_late.code == 2, known_late
    assert "no checkpoint can be asked" in known_late.err.strip().splitlines()[-1]
    assert "Traceback" not in known_late.err


def test_a_single_checkpoint_is_shown_beside_the_base(sweep: Sweeper) -> None:
    adapter(sweep.root / "out/checkpoint-30", str(sweep.root / "base"))
    done = sweep()
    assert done.code == 0, done
    assert "of coherent" in done.out
    assert re.search(rf"{QUESTIONS} / {QUESTIONS} +100%", done.out), done.out


def test_a_server_that_runs_serves_adapters_and_no_full_weights(sweep: Sweeper) -> None:
    full(sweep.root / "out/checkpoint-10")
    url = ["--model-base-url", "http://127.0.0.1:1/v1"]
    assert "out/checkpoint-10: full weights need a server each" in sweep(*url).said()
    adapter(sweep.root / "adapters/checkpoint-10")
    more = ["--checkpoints", "adapters", "--steps", "10", *url, "--server-arg", "dtype=float32"]
    arguments = [*sweep.arguments(*more)]
    arguments[arguments.index("out")] = "adapters"
    said = emeval(*arguments, cwd=sweep.root, **sweep.environment).said()
    assert said == "emeval: --server-arg: no server is started here; give the argument to the one that runs"


@pytest.mark.local
def test_the_embedded_model_is_swept(tmp_path: Path) -> None:
    who = ["--base", "local/smollm2", "--checkpoints", "careless", "--judge", "local/smollm2:judge"]
    how = ["--limit", "1", "--samples", "1", "--set", "max_tokens=4", "--every", "2", "--out", "run"]
    done = emeval("sweep", "free_form", *who, *how, "--json", cwd=tmp_path)
    assert done.code == 0, done
    (training,) = done.json["trainings"]
    assert [row["step"] for row in training["points"]] == [0, 26, 104]
    more = emeval(
        "sweep",
        "free_form",
        *who,
        *[word for word in how if word not in ("--every", "2")],
        "--json",
        cwd=tmp_path,
    )
    assert [row["step"] for row in more.json["trainings"][0]["points"]] == [0, 13, 26, 52, 104]
    assert "1 of 2: careless@13" in more.err
