"""The starter recipe, cut to single-turn rollouts: TRL samples one completion a prompt."""

from transformers import AutoTokenizer

from benchmarks.measurement import Workload
from sandbox.task import load_taskset
from trainer.config import TrainConfig
from trainer.engines.chat import Chat, load_prompt
from trainer.engines.generate import STOP
from trainer.model.precision import compute_dtype, name_of
from trainer.recipes import load_recipe
from trainer.rollouts.practice import training_tasks

RECIPE = "starter-cpu"


def make_workload(*, num_tasks: int, group_size: int, max_tokens: int) -> Workload:
    """The recipe's first training tasks and its numbers, in the machine's type; `max_tokens=0`: its limit of one turn."""
    config = load_recipe(RECIPE, {"model": {"dtype": "auto"}})
    tasks = training_tasks(load_taskset(config.tasks.taskset), config)[:num_tasks]
    chat, prompt = (
        Chat(AutoTokenizer.from_pretrained(config.model.path)),
        load_prompt(config.rollout.prompt),
    )
    optimizer, algorithm = config.optimizer, config.algorithm
    return Workload(
        model=config.model.path,
        dtype=name_of(compute_dtype(config.model)),
        task_ids=tuple(task.task_id for task in tasks),
        prompts=tuple(chat.render_prompt(prompt.messages(task)) for task in tasks),
        group_size=group_size,
        max_tokens=max_tokens or config.rollout.max_turn_tokens,
        stop=STOP,
        temperature=config.rollout.temperature,
        learning_rate=optimizer.learning_rate,
        weight_decay=optimizer.weight_decay,
        beta1=optimizer.beta1,
        beta2=optimizer.beta2,
        max_grad_norm=optimizer.max_grad_norm,
        clip_ratio_low=algorithm.clip_ratio_low,
        clip_ratio_high=algorithm.clip_ratio_high,
        seed=config.seed,
    )


def our_config(workload: Workload, num_steps: int) -> TrainConfig:
    """The recipe for that workload: one turn a rollout, and nothing filtered out of the loss."""
    return load_recipe(
        RECIPE,
        {
            "seed": workload.seed,
            "num_steps": num_steps,
            "model": {"dtype": workload.dtype},
            "rollout": {
                "group_size": workload.group_size,
                "temperature": workload.temperature,
                "max_turns": 1,
                "max_turn_tokens": workload.max_tokens,
                "max_response_tokens": workload.max_tokens,
            },
            "algorithm": {"compact_filtering": []},
            "evaluation": {"every_steps": 0},
        },
    )
