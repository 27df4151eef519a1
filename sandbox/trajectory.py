"""The readable record of a rollout: what the agent said, did and saw. Light: standard library and pydantic only.

Tokens live elsewhere (`trainer.grpo.batch`); a trajectory is text, for engineers who review it and for verifiers.
"""

from pydantic import BaseModel, ConfigDict, Field


class Action(BaseModel):
    """A parsed tool call in R2E-Gym's format, `<function=NAME><parameter=K>V</parameter></function>`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str
    """execute_bash, search, file_editor or finish; an unknown name is kept as the agent wrote it."""
    arguments: dict[str, str] = Field(default_factory=dict)


class Turn(BaseModel):
    """One action and its observation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    """0 for the first turn."""
    text: str
    """All that the model wrote in this turn, unaltered."""
    thought: str = ""
    """The text before the call."""
    action: Action | None = None
    """None when no call could be parsed; `error` then says why."""
    error: str = ""
    """What was wrong with the call; empty for a well-formed one."""
    observation: str = ""
    observation_truncated: bool = False
    exit_code: int | None = None
    """Of the tool; None when the command did not exit by itself or no tool ran."""
    num_prompt_tokens: int = 0
    """Tokens in the context when this turn was sampled."""
    num_sampled_tokens: int = 0
    generate_s: float = 0.0
    tool_s: float = 0.0
