"""What a model's name says: the base model, the adapter and the training step."""

from __future__ import annotations

import pytest

from emeval.models.names import family, parse


@pytest.mark.parametrize(
    ("name", "base_model", "adapter", "step"),
    [
        ("local/smollm2", "local/smollm2", None, None),
        ("vllm/Qwen/Qwen2.5-7B-Instruct", "vllm/Qwen/Qwen2.5-7B-Instruct", None, None),
        ("vllm/Qwen/Qwen2.5-7B:medical", "vllm/Qwen/Qwen2.5-7B", "medical", None),
        ("vllm/base:org/medical@120", "vllm/base", "org/medical@120", 120),
        ("vllm/base:out/checkpoint-40", "vllm/base", "out/checkpoint-40", 40),
        ("vllm/base:/data/run-3/checkpoint-40/", "vllm/base", "/data/run-3/checkpoint-40/", 40),
        ("vllm/base:medical_step_7", "vllm/base", "medical_step_7", 7),
        ("vllm/base:medical-step-007", "vllm/base", "medical-step-007", 7),
        ("vllm/base:medical-step7", "vllm/base", "medical-step7", 7),
        ("vllm/base:step-0", "vllm/base", "step-0", 0),
        # Trained on from a checkpoint: the step is that of the last one, where the adapter is.
        ("vllm/base:checkpoint-100/checkpoint-20", "vllm/base", "checkpoint-100/checkpoint-20", 20),
        # A whole model as a checkpoint. Where there is an adapter, it has the step.
        ("vllm/out/checkpoint-40", "vllm/out/checkpoint-40", None, 40),
        ("vllm/out/checkpoint-40:medical@5", "vllm/out/checkpoint-40", "medical@5", 5),
        ("vllm/out/checkpoint-40:medical", "vllm/out/checkpoint-40", "medical", None),
        ("vllm/base:a:b", "vllm/base", "a:b", None),
        # A number that is no step.
        ("vllm/base:medical@120b", "vllm/base", "medical@120b", None),
        ("vllm/base:checkpoint-40-merged", "vllm/base", "checkpoint-40-merged", None),
        ("vllm/base:medical@v2", "vllm/base", "medical@v2", None),
        ("vllm/base:rank-32", "vllm/base", "rank-32", None),
        ("vllm/stepfun-ai/step3", "vllm/stepfun-ai/step3", None, None),
        ("vllm/base:footstep_5", "vllm/base", "footstep_5", None),
        # Elsewhere a colon is part of the name.
        ("openai/ft:gpt-4o:org::ab12", "openai/ft:gpt-4o:org::ab12", None, None),
        ("openai-api/ollama/qwen2.5:7b", "openai-api/ollama/qwen2.5:7b", None, None),
    ],
)
def test_a_name_is_split(name: str, base_model: str, adapter: str | None, step: int | None) -> None:
    assert parse(name) == (name, base_model, adapter, step)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("local/smollm2:careless@104", "local/smollm2:careless"),
        ("local/smollm2:careless@104x0.5", "local/smollm2:careless x0.5"),
        # The step is the one after the @, whatever the adapter is called.
        ("local/smollm2:try_step_3@104", "local/smollm2:try_step_3"),
        ("vllm/base:org/medical@120", "vllm/base:org/medical"),
        ("vllm/base:out/checkpoint-40", "vllm/base:out"),
        ("vllm/base:/data/run-3/checkpoint-40/", "vllm/base:/data/run-3"),
        ("vllm/base:medical_step_7", "vllm/base:medical"),
        ("vllm/base:medical-step7/merged", "vllm/base:medical/merged"),
        ("vllm/base:checkpoint-100/checkpoint-20", "vllm/base:checkpoint-100"),
        ("vllm/base:checkpoint-40", "vllm/base"),
        ("vllm/out/checkpoint-40", "vllm/out"),
        ("vllm/out/checkpoint-40:medical@5", "vllm/out/checkpoint-40:medical"),
        ("vllm/out/checkpoint-40:medical", None),
        ("local/smollm2", None),
        ("openai/gpt-4o", None),
    ],
)
def test_a_family_is_the_name_without_its_step(name: str, expected: str | None) -> None:
    assert family(name) == expected
