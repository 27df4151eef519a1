"""A turn as the page shows it: one line for the outline, the call's parts, the observation. Pure: a
row in, text out.
"""

from dataclasses import dataclass, field

from django.utils.safestring import SafeString

from webapp.rollouts.diffs import Row, coloured, replacement_rows
from webapp.rollouts.models import Turn
from webapp.rollouts.plaintext import plain

SUMMARY_CHARS = 90
FOLD_LINES = 60
"""A longer observation starts folded."""
MAIN_ARGUMENTS = ("command", "cmd", "search_term", "path", "result")
"""What says most about a call, in this order, unless the tool has a form of its own."""


@dataclass(frozen=True, kw_only=True)
class ShownTurn:
    number: int
    """From 1, as in the address `#turn-3`."""
    row: Turn
    summary: str
    thought: str
    edit: list[Row] = field(default_factory=list)
    """A replacement as removed and added lines; `path` is its file."""
    path: str = ""
    code: SafeString | str = ""
    """A command or a new file's text."""
    arguments: list[tuple[str, str]] = field(default_factory=list)
    """Those that edit, path and code do not show."""
    unparsed: str = ""
    """All that the model wrote, when no call could be read from it."""
    observation: str = ""
    error: str = ""

    @property
    def num_lines(self) -> int:
        return self.observation.count("\n") + 1

    @property
    def is_long(self) -> bool:
        return self.num_lines > FOLD_LINES

    @property
    def tool(self) -> str:
        return plain(self.row.tool)

    @property
    def command(self) -> str:
        """Of file_editor: view, create, str_replace and so on."""
        return plain(str(self.row.arguments.get("command", "")))

    @property
    def short(self) -> str:
        """A few words for a narrow column: the command and its file, or the tool."""
        if self.path:
            return f"{self.command} {self.path.rsplit('/', 1)[-1]}"
        return self.tool or "no call"

    @property
    def seconds(self) -> float:
        return self.row.generate_s + self.row.tool_s


def shown_turn(turn: Turn) -> ShownTurn:
    values = {name: str(value) for name, value in turn.arguments.items()}
    path = plain(values.get("path", ""))
    edit, code, used = _call(turn.tool, values, path)
    rest = [(name, plain(value)) for name, value in values.items() if name not in used]
    return ShownTurn(
        number=turn.index + 1,
        row=turn,
        summary=_summary(turn.tool, values),
        thought=plain(turn.thought).strip(),
        edit=edit,
        path=path if "path" in used else "",
        code=code,
        arguments=rest,
        unparsed="" if turn.tool else plain(turn.text),
        observation=plain(turn.observation).rstrip(),
        error=plain(turn.error),
    )


def _call(
    tool: str, values: dict[str, str], path: str
) -> tuple[list[Row], SafeString | str, tuple[str, ...]]:
    """Edit rows, code, and the names of the arguments that these show."""
    if "old_str" in values or ("new_str" in values and tool == "file_editor"):
        edit = replacement_rows(
            path or "x.txt", values.get("old_str", ""), values.get("new_str", "")
        )
        return edit, "", ("command", "path", "old_str", "new_str")
    if "file_text" in values:
        return [], coloured(path or "x.txt", values["file_text"]), ("command", "path", "file_text")
    if tool == "execute_bash":
        name = "cmd" if "cmd" in values else "command"
        return [], coloured("x.sh", values.get(name, "")), (name,)
    return [], "", ()


def _summary(tool: str, values: dict[str, str]) -> str:
    """What the call does, in one line."""
    if tool == "file_editor":
        parts = [values.get("command", ""), values.get("path", "")]
    elif tool == "search":
        parts = [values.get("search_term", ""), values.get("path", "")]
    else:
        parts = [next((values[name] for name in MAIN_ARGUMENTS if name in values), "")]
    line = " ".join(plain(" ".join(part for part in parts if part)).split())
    return line if len(line) <= SUMMARY_CHARS else f"{line[: SUMMARY_CHARS - 1]}…"
