"""How a configuration is refused over the API."""

from typing import Any

from ninja import Schema, Status
from pydantic import ConfigDict

from trainer.config import ConfigError


class Problem(Schema):
    field: str
    message: str


class ProblemsOut(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "problems": [
                        {
                            "field": "rollout.group_size",
                            "message": "1: needs at least 2 for a leave-one-out baseline",
                        }
                    ]
                }
            ]
        }
    )

    problems: list[Problem]


def refusal(error: ConfigError) -> Status[Any]:
    """422 with every fault."""
    found = [{"field": field, "message": message} for field, message in error.problems]
    return Status(422, {"problems": found})
