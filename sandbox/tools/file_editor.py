"""file_editor: view, create and edit files, inside the sandbox, as the agent. Parameters are one
JSON object on stdin.

Stands alone: started as `python3 -I -S`, standard library only. Exit code 0 when done, 1 with a
message for the model. Bytes that are not UTF-8 survive an edit unchanged.
"""

# No pathlib here: its import would be half of this tool's start-up time.

import io
import json
import os
import sys

ROOT = "/testbed"
STATE = "/home/agent/.file_editor.json"
MAX_CHARS = 10_000
MAX_UNDO = 20
SNIPPET_LINES = 4
CONCISE_ABOVE_LINES = 110
ELIDED_BODY_LINES = 4
"""Function bodies of this many lines or more are hidden in a concise view."""


class Refused(Exception):
    """The call cannot be carried out; the message is for the model."""


def main() -> int:
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    arguments = json.load(sys.stdin)
    path = resolve(arguments["path"].strip())
    try:
        print(COMMANDS[arguments["command"].strip()](path, arguments))
    except Refused as refusal:
        print(f"ERROR: {refusal}")
        return 1
    except OSError as error:
        print(f"ERROR: {error.strerror}: {path}")
        return 1
    return 0


def resolve(path: str) -> str:
    return os.path.normpath(os.path.join(ROOT, path))


def view(path: str, arguments: dict[str, str]) -> str:
    if os.path.isdir(path):
        return listing(path)
    lines = read(path).removesuffix("\n").split("\n")
    chosen = arguments.get("view_range", "").strip()
    if chosen:
        first, last = view_range(chosen, len(lines))
        return numbered(path, lines[first - 1 : last], first)
    concise = (
        arguments.get("concise", "").strip().lower() == "true" or len(lines) > CONCISE_ABOVE_LINES
    )
    if concise and path.endswith(".py"):
        return numbered_around(path, lines, elided(lines))
    return numbered(path, lines, 1)


def listing(path: str) -> str:
    rows = []
    for folder, folders, files in os.walk(path):
        depth = 0 if folder == path else folder[len(path) :].count("/")
        folders[:] = (
            sorted(f for f in folders if not f.startswith(".") and f != "__pycache__")
            if depth < 2
            else []
        )
        rows += [f"{folder}/"] + [
            os.path.join(folder, f) for f in sorted(files) if not f.startswith(".")
        ]
    return clipped("\n".join(rows[:200]))


def view_range(text: str, count: int) -> tuple[int, int]:
    try:
        first, last = (int(n) for n in text.strip("[]()").split(","))
    except ValueError:
        raise Refused("view_range must be two line numbers, like [1, 20].") from None
    last = count if last == -1 else last
    if not 1 <= first <= last:
        raise Refused(
            f"view_range [{first}, {last}] is not valid: the file has lines 1 to {count}."
        )
    return first, min(last, count)


def elided(lines: list[str]) -> set[int]:
    """Numbers of the lines inside long function bodies; none when the file does not parse."""
    import ast

    try:
        tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError):
        return set()
    hidden: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first, last = node.body[0].lineno, node.end_lineno or 0
            if last - first + 1 >= ELIDED_BODY_LINES:
                hidden |= set(range(first, last + 1))
    return hidden


def numbered_around(path: str, lines: list[str], hidden: set[int]) -> str:
    rows, gap = [], 0
    for number, line in enumerate(lines, 1):
        if number in hidden:
            gap += 1
            continue
        if gap:
            rows.append(gap_row(gap, number - 1))
            gap = 0
        rows.append(f"{number:6}\t{line}")
    if gap:
        rows.append(gap_row(gap, len(lines)))
    return clipped(f"Here's {path} with long functions hidden:\n" + "\n".join(rows))


def gap_row(count: int, last: int) -> str:
    return f"       ... {count} lines hidden: view them by view_range [{last - count + 1}, {last}]"


def numbered(path: str, lines: list[str], first: int) -> str:
    rows = "\n".join(f"{number:6}\t{line}" for number, line in enumerate(lines, first))
    return clipped(f"Here's the result of running `cat -n` on {path}:\n{rows}")


def create(path: str, arguments: dict[str, str]) -> str:
    if os.path.lexists(path):
        raise Refused(f"File already exists at: {path}. Use str_replace to edit it.")
    check_syntax(path, arguments["file_text"], arguments)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    remember(path, None)
    write(path, arguments["file_text"])
    return f"File created successfully at: {path}"


def str_replace(path: str, arguments: dict[str, str]) -> str:
    old, new, text = arguments["old_str"], arguments.get("new_str", ""), read(path)
    if not old:
        raise Refused("old_str is empty. Copy the text to replace from the file.")
    count = text.count(old)
    if count == 0:
        raise Refused(
            f"No replacement performed: old_str `{short(old)}` did not appear verbatim in {path}."
            + hint(text, old)
        )
    if count > 1:
        at = [str(text[: found(text, old, n)].count("\n") + 1) for n in range(count)][:5]
        raise Refused(
            f"No replacement performed: old_str appears {count} times (lines {', '.join(at)}). "
            "Add lines around it."
        )
    if old == new:
        raise Refused("No replacement performed: new_str is the same as old_str.")
    start = text.index(old)
    after = text[:start] + new + text[start + len(old) :]
    check_syntax(path, after, arguments)
    return edited(path, text, after, text[:start].count("\n"), new.count("\n"))


def found(text: str, part: str, n: int) -> int:
    start = text.index(part)
    for _ in range(n):
        start = text.index(part, start + len(part))
    return start


def hint(text: str, old: str) -> str:
    """The line of the file that the model probably meant."""
    wanted = old.strip().split("\n")[0].strip()
    for line in text.split("\n"):
        if wanted and line.strip() == wanted:
            return f" Line breaks or indentation differ: the file has `{short(line)}`."
    import difflib

    close = difflib.get_close_matches(
        wanted, [line.strip() for line in text.split("\n")], n=1, cutoff=0.6
    )
    return f" Closest line: `{short(close[0])}`." if close else ""


def insert(path: str, arguments: dict[str, str]) -> str:
    text = read(path)
    lines = text.split("\n")
    try:
        at = int(arguments["insert_line"])
    except ValueError:
        raise Refused("insert_line must be a line number; the text goes after that line.") from None
    if not 0 <= at <= len(lines):
        raise Refused(f"insert_line {at} is not valid: give 0 to {len(lines)}.")
    new = arguments["new_str"].split("\n")
    after = "\n".join(lines[:at] + new + lines[at:])
    check_syntax(path, after, arguments)
    return edited(path, text, after, at, len(new) - 1)


def check_syntax(path: str, text: str, arguments: dict[str, str]) -> None:
    """With enable_linting, refuse to leave a Python file that does not parse."""
    wanted = arguments.get("enable_linting", "").strip().lower() == "true"
    if not wanted or not path.endswith(".py"):
        return
    import ast

    try:
        ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise Refused(f"Nothing was changed: {path} would not be valid Python: {error}") from None


def edited(path: str, before: str, after: str, line: int, extra: int) -> str:
    """Write `after` and show the lines around 0-based `line`, where `extra` more lines than one are
    new.
    """
    remember(path, before)
    write(path, after)
    first = max(0, line - SNIPPET_LINES)
    snippet = after.split("\n")[first : line + extra + SNIPPET_LINES + 1]
    rows = "\n".join(f"{number:6}\t{text}" for number, text in enumerate(snippet, first + 1))
    return clipped(f"The file {path} has been edited:\n{rows}")


def undo_edit(path: str, arguments: dict[str, str]) -> str:
    history = load_history()
    for index in range(len(history) - 1, -1, -1):
        if history[index][0] == path:
            _, before = history.pop(index)
            os.remove(path) if before is None else write(path, before)
            save_history(history)
            return f"Last edit to {path} undone."
    raise Refused(f"No edit of {path} to undo.")


def remember(path: str, before: str | None) -> None:
    save_history([*load_history(), [path, before]][-MAX_UNDO:])


def load_history() -> list[list[str | None]]:
    try:
        with open(STATE, encoding="utf-8") as file:
            history = json.load(file)
    except (OSError, ValueError):
        return []
    return history if isinstance(history, list) else []


def save_history(history: list[list[str | None]]) -> None:
    with open(STATE, "w", encoding="utf-8") as file:
        json.dump(history, file)


def read(path: str) -> str:
    if not os.path.lexists(path):
        raise Refused(f"The path {path} does not exist.{beside(path)}")
    if os.path.isdir(path):
        raise Refused(f"{path} is a directory. Name a file.")
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read()


def beside(path: str) -> str:
    """Files that the model may have meant."""
    name, rows = os.path.basename(path), []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__pycache__"]
        rows += [os.path.join(folder, f) for f in files if not f.startswith(".")]
    rows = sorted(rows, key=lambda row: (os.path.basename(row) != name, row))[:3]
    return f" There is: {', '.join(rows)}." if rows else ""


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)


def clipped(text: str) -> str:
    return (
        text
        if len(text) <= MAX_CHARS
        else text[:MAX_CHARS] + "\n... cut: use view_range to see the rest"
    )


def short(text: str) -> str:
    text = text.replace("\n", "\\n")
    return text if len(text) <= 60 else text[:60] + "..."


COMMANDS = {
    "view": view,
    "create": create,
    "str_replace": str_replace,
    "insert": insert,
    "undo_edit": undo_edit,
}

if __name__ == "__main__":
    sys.exit(main())
