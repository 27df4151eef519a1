"""The call format of R2E-Gym and its four tools: text of the model -> `Action`, and what to tell
the model when it is none.

    <function=NAME><parameter=KEY>VALUE</parameter>...</function>

One call a reply: the first. Every error is one or two short sentences with an example, since what
reads it may be a small model. How a tool's result becomes an observation is `sandbox.observations`;
running it is `sandbox.environment`.
"""

import re
from typing import NamedTuple

from sandbox.trajectory import Action


class Tool(NamedTuple):
    """A tool's parameters and a call that works."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    example: str


TOOLS: dict[str, Tool] = {
    "execute_bash": Tool(
        ("cmd",), (), "<function=execute_bash><parameter=cmd>ls</parameter></function>"
    ),
    "search": Tool(
        ("search_term",),
        ("path",),
        "<function=search><parameter=search_term>total</parameter></function>",
    ),
    "file_editor": Tool(
        ("command", "path"),
        (
            "file_text",
            "old_str",
            "new_str",
            "insert_line",
            "view_range",
            "enable_linting",
            "concise",
        ),
        "<function=file_editor><parameter=command>view</parameter><parameter=path>a.py</parameter></function>",
    ),
    "finish": Tool((), ("command", "result"), "<function=finish></function>"),
}
EDITOR_COMMANDS: dict[str, tuple[str, ...]] = {
    "view": (),
    "create": ("file_text",),
    "str_replace": ("old_str",),
    "insert": ("insert_line", "new_str"),
    "undo_edit": (),
}
"""What each command of file_editor needs beside `command` and `path`."""

MAX_COMMAND_BYTES = 100_000
"""The kernel takes 128 KiB in one argument."""

_FUNCTION = re.compile(r"<function\s*=\s*([^>\n]*)>")
_PARAMETER = re.compile(r"\s*<parameter\s*=\s*([^>\n]*)>")
_END = "</function>"
_PARAMETER_END = "</parameter>"


class Parsed(NamedTuple):
    """`action` may be set beside `error`: a call that could be read and cannot be run."""

    action: Action | None
    error: str
    """Empty for a call that can be run."""
    thought: str
    """The text before the call; all of it when there is none."""


def parse(text: str) -> Parsed:
    """The first tool call in `text`, checked against the tools there are."""
    text = text.encode("utf-8", "replace").decode()
    opening = _FUNCTION.search(text)
    if opening is None:
        return Parsed(
            None,
            f"No tool call found. Reply with one call, like {TOOLS['execute_bash'].example}",
            text.strip(),
        )
    thought, name = text[: opening.start()].strip(), opening.group(1).strip()
    arguments: dict[str, str] = {}
    rest = text[opening.end() :]
    while (match := _PARAMETER.match(rest)) is not None:
        key = match.group(1).strip()
        value, closed, rest = rest[match.end() :].partition(_PARAMETER_END)
        if not closed:
            return Parsed(
                None,
                f"Missing {_PARAMETER_END} after parameter {_short(key)}. Close each parameter with "
                f"{_PARAMETER_END} and the call with {_END}.",
                thought,
            )
        arguments[key] = _unwrapped(value)
    if not rest.lstrip().startswith(_END):
        # no example of another call here: a small model copies it instead of mending its own
        return Parsed(
            None,
            f"Missing {_END} at the end of the call, so nothing was done. End it with {_END}.",
            thought,
        )
    action = Action(tool=name, arguments=arguments)
    return Parsed(action, check(action), thought)


def check(action: Action) -> str:
    """Why `action` cannot be run; empty if it can."""
    tool = TOOLS.get(action.tool)
    if tool is None:
        named = f"Unknown tool {_short(action.tool)}" if action.tool else "The call names no tool"
        return f"{named}. Use one of: {', '.join(TOOLS)}. {_like('')}"
    for name in action.arguments:
        if name not in tool.required + tool.optional:
            known = ", ".join(tool.required + tool.optional)
            return f"{action.tool} has no parameter {_short(name)}. It takes: {known}."
    for name in tool.required:
        if not action.arguments.get(name, "").strip():
            return f"{action.tool} needs parameter {name}. {_like(action.tool)}"
    for name, value in action.arguments.items():
        if "\0" in value:
            return f"Parameter {name} holds a NUL character. Write it without."
    if action.tool == "file_editor":
        return _check_editor(action.arguments)
    if len(action.arguments.get("cmd", "").encode()) > MAX_COMMAND_BYTES:
        return f"cmd is longer than {MAX_COMMAND_BYTES} bytes. Write it to a file and run that."
    return ""


def _check_editor(arguments: dict[str, str]) -> str:
    command = arguments["command"].strip()
    if command not in EDITOR_COMMANDS:
        known = ", ".join(EDITOR_COMMANDS)
        return f"Unknown command {_short(command)} of file_editor. Use one of: {known}."
    for name in EDITOR_COMMANDS[command]:
        if name not in arguments:
            return (
                f"file_editor {command} needs parameter {name}: <parameter={name}>...</parameter>"
            )
    return ""


def _unwrapped(value: str) -> str:
    """The value without the one newline that may follow the opening and the one that may precede
    the closing tag.
    """
    value = value.removeprefix("\r\n").removeprefix("\n")
    return value.removesuffix("\n").removesuffix("\r")


def _like(tool: str) -> str:
    return f"Write it like {TOOLS.get(tool, TOOLS['execute_bash']).example}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
