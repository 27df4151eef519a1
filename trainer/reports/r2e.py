"""R2E-Gym's trajectories: one JSON object a line, with the fields of its `Trajectory` (github.com/R2E-Gym/R2E-Gym).

Rollouts that ended as INFRA are left out. What R2E-Gym measures and we do not (time of the model beside that of the whole
step) is said as our turns know it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.task import Task
from sandbox.trajectory import Action, Turn
from trainer.evaluations.config import EvalConfig
from trainer.evaluations.results import Result, turns_of
from trainer.events import TerminationReason, TurnEnded

EXIT_REASONS: dict[TerminationReason, str] = {
    "finished": "agent",
    "max_turns": "max_step_limit",
    "max_context": "token_limit",
    "timeout": "traj_time_limit",
}
"""R2E-Gym has no word for agent_fault: it keeps ours."""
ROW_FIELDS = {
    "repo_name",
    "docker_image",
    "commit_hash",
    "problem_statement",
    "expected_output_json",
    "modified_files",
    "relevant_files",
}


def write_trajectories(
    path: Path, results: Sequence[Result], tasks: Mapping[str, Task], config: EvalConfig
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lines:
        for result, turns in turns_of([r for r in results if r.reward is not None]):
            row = trajectory(result, turns, tasks[result.task], config)
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def trajectory(
    result: Result, turns: Sequence[TurnEnded], task: Task, config: EvalConfig
) -> dict[str, Any]:
    finished, limits = result.finished, config.rollout
    return {
        "trajectory_steps": _steps([event.turn for event in turns]),
        "problem_statement": task.problem_statement,
        "docker_image": task.docker_image,
        "exp_name": config.recipe or config.model.path,
        "env_args": {"ds": task.model_dump(mode="json", include=ROW_FIELDS)},
        "agent_args": {"llm_name": config.model.path, "temperature": limits.temperature},
        "ds": {"task_id": task.task_id, **task.model_dump(mode="json", include=ROW_FIELDS)},
        "max_steps": limits.max_turns,
        "max_steps_absolute": limits.max_turns,
        "max_token_limit": limits.max_prompt_tokens + limits.max_response_tokens,
        "max_llm_time": config.engine.request_timeout_s,
        "max_exec_time": config.sandbox.command_timeout_s,
        "max_total_time": limits.timeout_s,
        "exit_reason": EXIT_REASONS.get(finished.termination_reason, finished.termination_reason),
        "output_patch": result.patch.decode(errors="replace"),
        "reward": result.reward,
        "reward_calc_time": finished.grade_s,
        "test_output": "\n".join(f"{status} {name}" for name, status in finished.tests.items()),
    }


def _steps(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    steps, elapsed_s = [], 0.0
    for number, turn in enumerate(turns, start=1):
        elapsed_s += turn.generate_s + turn.tool_s
        steps.append(
            {
                "step_idx": turn.index,
                "thought": turn.thought,
                "action": xml(turn.action) if turn.action else "",
                "observation": turn.observation,
                "done": turn.action is not None and turn.action.tool == "finish",
                "info": {"error": turn.error} if turn.error else {},
                "token_usage_prompt": turn.num_prompt_tokens,
                "token_usage_completion": turn.num_sampled_tokens,
                "token_usage_total": turn.num_prompt_tokens + turn.num_sampled_tokens,
                "llm_exec_time": turn.generate_s,
                "env_exec_time": turn.tool_s,
                "total_step_time": round(turn.generate_s + turn.tool_s, 3),
                "total_time_traj": round(elapsed_s, 3),
                "step_count": number,
            }
        )
    return steps


def xml(action: Action) -> str:
    """The call in R2E-Gym's form."""
    parameters = [
        f"<parameter={name}>{value}</parameter>" for name, value in action.arguments.items()
    ]
    return "\n".join([f"<function={action.tool}>", *parameters, "</function>"])
