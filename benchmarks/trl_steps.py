"""`python -m benchmarks.trl_steps WORKLOAD NUM_STEPS OUT`: time steps of TRL's GRPOTrainer.

Runs in TRL's own environment, with the fastest settings that a CPU allows for the same step: bf16
autocast over float32 weights, freed memory kept in the process as ours does, no recomputed
activations, all completions of a step sampled at once by transformers (TRL's vLLM mode wants CUDA),
one group a micro-batch so that memory suffices, and our stop string, so that it need not sample on
behind it. Its rewards are given, not earned: no sandbox runs and no patch is graded here.
"""

import functools
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOConfig, GRPOTrainer

from benchmarks.measurement import StepTime, Workload, alternating_rewards, save_steps
from trainer.nodes.malloc import keep_freed_pages


def main() -> int:
    workload_path, num_steps, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    keep_freed_pages()
    workload = Workload.load(workload_path)
    torch.manual_seed(workload.seed)
    tokenizer = AutoTokenizer.from_pretrained(workload.model)
    clock = StepClock()
    trainer = TimedTrainer(
        model=workload.model,
        reward_funcs=mixed_rewards,
        args=trl_config(workload, num_steps, out.parent / "trl"),
        train_dataset=Dataset.from_dict({"prompt": list(workload.prompts)}),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    # transformers needs the tokenizer to find a stop string, and TRL hands it none
    trainer.model.generate = functools.partial(trainer.model.generate, tokenizer=tokenizer)
    trainer.train()
    save_steps(
        [
            timed.step_time(whole_s)
            for timed, whole_s in zip(trainer.sampled, clock.seconds, strict=True)
        ],
        out,
    )
    return 0


def trl_config(workload: Workload, num_steps: int, folder: Path) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(folder),
        max_steps=num_steps,
        # the step: every group in one optimizer step, a group at a time through the model
        num_generations=workload.group_size,
        per_device_train_batch_size=workload.group_size,
        gradient_accumulation_steps=len(workload.prompts),
        num_iterations=1,
        shuffle_dataset=False,
        seed=workload.seed,
        # sampling
        max_completion_length=workload.max_tokens,
        temperature=workload.temperature,
        top_p=1.0,
        top_k=0,
        generation_kwargs={"stop_strings": [workload.stop]},
        # the loss: GRPO++ as far as TRL has it
        loss_type="dr_grpo",
        scale_rewards="none",
        epsilon=workload.clip_ratio_low,
        epsilon_high=workload.clip_ratio_high,
        beta=0.0,
        # the optimizer
        optim="adamw_torch_fused",
        learning_rate=workload.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=workload.weight_decay,
        adam_beta1=workload.beta1,
        adam_beta2=workload.beta2,
        max_grad_norm=workload.max_grad_norm,
        # the machine
        use_cpu=True,
        bf16=workload.dtype == "bfloat16",
        model_init_kwargs={"dtype": "float32"},
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        # nothing but training
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def mixed_rewards(completions: list[str], **_: Any) -> list[float]:
    """TRL lays out the completions group after group."""
    return alternating_rewards(len(completions))


class Sampled:
    """What one call for completions took and gave."""

    def __init__(self, seconds: float, batch: dict[str, Any]) -> None:
        self.seconds = seconds
        self.num_rollouts = len(batch["completion_ids"])
        self.prompt_tokens = int(batch["prompt_mask"].sum())
        self.sampled_tokens = int(batch["completion_mask"].sum())

    def step_time(self, whole_s: float) -> StepTime:
        return StepTime(
            sampling_s=self.seconds,
            update_s=whole_s - self.seconds,
            whole_s=whole_s,
            num_rollouts=self.num_rollouts,
            prompt_tokens=self.prompt_tokens,
            sampled_tokens=self.sampled_tokens,
        )


class TimedTrainer(GRPOTrainer):
    """GRPOTrainer, with its sampling timed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampled: list[Sampled] = []

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        began = time.perf_counter()
        batch = super()._generate_and_score_completions(inputs)
        self.sampled.append(Sampled(time.perf_counter() - began, batch))
        return batch


class StepClock(TrainerCallback):
    """Wall time from the beginning of each step to the end of its optimizer step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._began = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.seconds.append(time.perf_counter() - self._began)


if __name__ == "__main__":
    sys.exit(main())
