"""Which number type a model computes in: what is configured, or what the hardware multiplies."""

from types import MappingProxyType
from typing import Any

import pytest
import torch

from tests.trainer.attempts import make_config
from trainer.config import ModelConfig
from trainer.model import precision
from trainer.model.precision import compute_dtype, name_of, planned_dtype


def this_cpu_has(monkeypatch: pytest.MonkeyPatch, **capabilities: Any) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU decides only where there is no GPU")
@pytest.mark.parametrize("capability", ["amx_bf16", "avx512_bf16", "bf16"])
def test_a_cpu_that_multiplies_bfloat16_computes_in_it(
    capability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    this_cpu_has(monkeypatch, avx2=True, **{capability: True})
    assert compute_dtype(ModelConfig()) is torch.bfloat16
    this_cpu_has(monkeypatch, avx2=True, **{capability: False})
    assert compute_dtype(ModelConfig()) is torch.float32


@pytest.mark.parametrize("name", ["bfloat16", "float32"])
def test_a_configured_type_is_taken_on_any_machine(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for native in (True, False):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda native=native: native)
        found = compute_dtype(ModelConfig.model_validate({"dtype": name}))
        assert name_of(found) == name


def test_a_plan_for_gpus_counts_on_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    assert (
        planned_dtype(make_config(model={"dtype": "auto"}, hardware={"gpus_per_node": 8}))
        is torch.bfloat16
    )
    assert planned_dtype(make_config(model={"dtype": "auto"})) is torch.float32
