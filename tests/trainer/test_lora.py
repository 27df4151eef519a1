"""LoRA: its gradients against the paper's formula, and that what is handed over is what was trained, bit for bit."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainer.attempts import make_config
from tests.trainer.conftest import MakeConfig
from tests.trainer.gradients import (
    TEMPERATURE,
    alike_groups,
    apart,
    run_update,
    sample_near_the_policy,
    splitting,
)
from tests.trainer.random_models import FAMILIES, make_model, make_policy
from tests.trainer.test_checkpoint import CONFIG, NoTokenizer, take_step
from tests.trainer.test_train_verifier import example
from trainer.config import ConfigError, LoraConfig, TrainConfig
from trainer.grpo.batch import pack
from trainer.model import attention
from trainer.model.lora import LoraLinear, adapt, adapters, is_adapter, unload
from trainer.model.policy import (
    Policy,
    engine_state,
    load_policy,
    make_optimizer,
    weight_shapes,
    whole_weights,
)
from trainer.nodes.world import ALONE
from trainer.train_verifier import fit
from trainer.training import checkpoint
from trainer.training.checkpoint import CheckpointError, Progress
from trainer.training.follow import load_state

LORA = LoraConfig(rank=3, alpha=6.0)


def merged_copy(policy: Policy, family: str) -> Policy:
    """All weights in one, as the engine has them, and all of them trained."""
    plain = make_model(family, attention.TREE)
    plain.load_state_dict(engine_state(policy, torch.float32))
    return Policy(plain, dtype=policy.dtype, temperature=TEMPERATURE)


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_is_the_papers_formula_with_its_gradients(bias: bool) -> None:
    """Float64: (W x + b) + s B (A x), by autograd."""
    torch.manual_seed(0)
    base = nn.Linear(6, 5, bias=bias).double()
    layer = LoraLinear(base, rank=2, alpha=3.0, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(layer.lora_B)
    x, slope = torch.randn(4, 3, 6).double(), torch.randn(4, 3, 5).double()

    def gradients_of(y: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((y * slope).sum(), of)

    x.requires_grad_()
    y = layer(x)
    ours = gradients_of(y, x, layer.lora_A, layer.lora_B)
    a, b = (p.detach().clone().requires_grad_() for p in (layer.lora_A, layer.lora_B))
    expected = linear(x, base.weight, base.bias) + 3.0 / 2 * linear(linear(x, a), b)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    for found, gradient in zip(ours, gradients_of(expected, x, a, b), strict=True):
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("share_prefix", "budget", "checkpointed"),
    [(False, 1, False), (True, 24, False), (True, 4096, True)],
)
def test_an_updates_gradients_follow_from_those_of_all_weights(
    family: str, share_prefix: bool, budget: int, checkpointed: bool
) -> None:
    policy = make_policy(family, temperature=TEMPERATURE, lora=LORA)
    if checkpointed:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        policy.model.train()
    assert_gradients(policy, family, splitting(share_prefix, budget))


@pytest.mark.filterwarnings("default")  # Dynamo's and Inductor's own
def test_so_they_do_where_a_layer_is_compiled() -> None:
    policy = make_policy("llama", temperature=TEMPERATURE, lora=LORA)
    policy.model.model.layers[1].compile(dynamic=True)
    assert_gradients(policy, "llama", splitting(True, 4096))


def assert_gradients(policy: Policy, family: str, config: TrainConfig) -> None:
    """dA = s B^T dW and dB = s dW A^T, with dW of the merged model, one rollout at a time; frozen weights get none."""
    groups = alike_groups(config)
    sample_near_the_policy(groups, random.Random(3), family)
    _, of_weights = run_update(merged_copy(policy, family), groups, splitting(False, 1))
    _, found = run_update(policy, groups, config)
    modules = adapters(policy.model)
    assert len(modules) == 2 * 7
    for name, module in modules.items():
        gradient = of_weights[f"{name}.weight"]
        of_a = module.scale * module.lora_B.detach().mT @ gradient
        of_b = module.scale * gradient @ module.lora_A.detach().mT
        assert apart(found[f"{name}.lora_A"], of_a) < 1e-5, name
        assert apart(found[f"{name}.lora_B"], of_b) < 1e-5, name
    assert not any(gradient.any() for name, gradient in found.items() if not is_adapter(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_engine_gets_scores_as_the_policy_does_bit_for_bit(
    family: str, dtype: torch.dtype
) -> None:
    policy = make_policy(family, temperature=TEMPERATURE, lora=LORA)
    policy.dtype = dtype
    config = make_config()
    (row,) = pack(alike_groups(config), config)
    with torch.no_grad():
        scores = policy.scores(row).logprobs
        merged = merged_copy(policy, family)
        assert torch.equal(merged.scores(row).logprobs, scores)
        untrained = make_policy(family, temperature=TEMPERATURE)
        untrained.dtype = dtype
        assert not torch.allclose(untrained.scores(row).logprobs, scores, atol=0.01)
        unload(policy.model)
        assert torch.equal(policy.scores(row).logprobs, scores)
    assert policy.model.state_dict().keys() == untrained.model.state_dict().keys()


def test_the_first_step_starts_from_the_model_itself(run_config: MakeConfig) -> None:
    config = run_config()
    plain, adapted, again, other = (
        load_policy(config.model, temperature=1.0, lora=lora, seed=seed)
        for lora, seed in ((None, 0), (LORA, 0), (LORA, 0), (LORA, 1))
    )
    expected, found = (engine_state(policy, torch.float32) for policy in (plain, adapted))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    trained = [
        {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
        for policy in (adapted, again, other)
    ]
    assert all(is_adapter(name) for name in trained[0])
    assert all(torch.equal(trained[1][name], p) for name, p in trained[0].items())
    assert not all(torch.equal(trained[2][name], p) for name, p in trained[0].items())


def test_shapes_are_told_before_the_weights_are_gathered() -> None:
    policy = make_policy("llama", lora=LORA)
    told = weight_shapes(policy)
    assert told == {n: weight.shape for n, weight in whole_weights(policy, torch.bfloat16)}
    assert told == weight_shapes(make_policy("llama"))


def save(run_dir: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> Path:
    return checkpoint.save(run_dir, policy, optimizer, Progress(1, 1, 8), NoTokenizer(), 2)


def test_resuming_with_lora_gives_the_same_next_update_bit_for_bit(tmp_path: Path) -> None:
    make_model("llama", "sdpa").save_pretrained(tmp_path / "model")
    config = CONFIG.model_copy(
        update={
            "model": CONFIG.model.model_copy(update={"path": str(tmp_path / "model")}),
            "lora": LORA,
        }
    )
    policy, optimizer, _, _ = load_state(config, tmp_path, ALONE)
    take_step(policy, optimizer, 1)
    folder = save(tmp_path, policy, optimizer)
    take_step(policy, optimizer, 2)

    resumed, its_optimizer, _, progress = load_state(config, tmp_path, ALONE)
    assert progress.step == 1
    take_step(resumed, its_optimizer, 2)

    for (name, one), other in zip(
        policy.model.named_parameters(), resumed.model.parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    assert any(p.abs().max() > 0 for name, p in resumed.model.named_parameters() if "_B" in name)
    # its model folder is an ordinary one, with what was learnt in its weights
    saved = load_file(folder / "model/model.safetensors")
    assert saved.keys() == load_file(tmp_path / "model/model.safetensors").keys()
    name = "model.layers.0.mlp.up_proj"
    module, a, b = (
        policy.model.get_submodule(name),
        *(load_peft(folder)[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB"),
    )
    torch.testing.assert_close(saved[f"{name}.weight"], module.weight + 2.0 * b @ a)


def load_peft(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter/adapter_model.safetensors")


def test_an_adapter_is_saved_as_peft_has_it(tmp_path: Path) -> None:
    policy = make_policy("llama", lora=LoraConfig(rank=3, alpha=6.0, targets=["q_proj", "v_proj"]))
    folder = save(tmp_path, policy, make_optimizer(policy.model, CONFIG.optimizer)) / "adapter"
    told = json.loads((folder / "adapter_config.json").read_text())
    assert (told["peft_type"], told["r"], told["lora_alpha"]) == ("LORA", 3, 6.0)
    assert told["target_modules"] == ["q_proj", "v_proj"]
    shapes = {name: tuple(t.shape) for name, t in load_peft(folder.parent).items()}
    prefix = "base_model.model.model.layers.1.self_attn"
    assert len(shapes) == 2 * 2 * 2
    assert shapes[f"{prefix}.q_proj.lora_A.weight"] == (3, 32)
    assert shapes[f"{prefix}.v_proj.lora_B.weight"] == (16, 3)


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        (LORA, None),
        (None, LORA),
        (LORA, LoraConfig(rank=2)),
        (LoraConfig(rank=3, targets=["q_proj"]), LORA),
    ],
)
def test_a_checkpoint_of_other_adapters_is_refused(
    tmp_path: Path, saved: LoraConfig | None, loaded: LoraConfig | None
) -> None:
    one, other = (make_policy("llama", lora=lora) for lora in (saved, loaded))
    save(tmp_path, one, make_optimizer(one.model, CONFIG.optimizer))
    with pytest.raises(CheckpointError, match="step_1: not of the configured model .*lora_A"):
        checkpoint.load(tmp_path, 1, other, make_optimizer(other.model, CONFIG.optimizer))


def test_a_torn_adapter_names_the_remedy(tmp_path: Path) -> None:
    policy = make_policy("llama", lora=LORA)
    optimizer = make_optimizer(policy.model, CONFIG.optimizer)
    path = save(tmp_path, policy, optimizer) / "adapter/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="step_1: not readable .* remove it to resume"):
        checkpoint.load(tmp_path, 1, policy, optimizer)


def test_an_adapter_that_the_model_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lora.rank: 17: k_proj itself has rank 16 at most"):
        adapt(make_model("llama", "sdpa"), LoraConfig(rank=17), seed=0)
    model = make_model("llama", "sdpa")
    for layer in model.model.layers:
        del layer.mlp.gate_proj
    with pytest.raises(ConfigError, match="lora.targets: gate_proj: not a projection of this"):
        adapt(model, LORA, seed=0)


def test_a_verifier_is_trained_by_its_adapter_alone(tiny_model: Path) -> None:
    """The tiny model's output layer is random and frozen: the loss falls, but not far."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    adapt(model, LoraConfig(rank=8), seed=0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    examples = [example(i) for i in range(32)]
    losses = fit(model, tokenizer, examples, epochs=2, learning_rate=3e-3, seed=0)
    assert sum(losses[4:]) < 0.9 * sum(losses[:4])
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if is_adapter(name)}
