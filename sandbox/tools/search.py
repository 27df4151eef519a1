"""search: find a string in a file or below a folder, inside the sandbox. Parameters are one JSON
object on stdin.

Stands alone: started as `python3 -I -S`, standard library only. A file gives its lines; a folder
gives counts per .py file.
"""

# No pathlib here: its import would be half of this tool's start-up time.

import io
import json
import os
import sys

ROOT = "/testbed"
MAX_FILES = 100
MAX_LINES = 100


def main() -> int:
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    arguments = json.load(sys.stdin)
    term, path = (
        arguments["search_term"],
        os.path.normpath(os.path.join(ROOT, arguments.get("path", ".").strip() or ".")),
    )
    if not os.path.exists(path):
        print(f"ERROR: The path {path} does not exist.")
        return 1
    print(search_folder(path, term) if os.path.isdir(path) else search_file(path, term))
    return 0


def lines_with(path: str, term: str) -> list[tuple[int, str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [
                (number, line.rstrip("\n")) for number, line in enumerate(file, 1) if term in line
            ]
    except OSError:
        return []


def search_file(path: str, term: str) -> str:
    rows = lines_with(path, term)
    if not rows:
        return f"No matches found for {term!r} in {path}"
    shown = "\n".join(f"{number}:{line[:300]}" for number, line in rows[:MAX_LINES])
    return f"Matches for {term!r} in {path}:\n{shown}"


def search_folder(path: str, term: str) -> str:
    counts = []
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__pycache__")
        for name in sorted(files):
            file = os.path.join(folder, name)
            if (
                name.endswith(".py")
                and os.path.isfile(file)
                and (count := len(lines_with(file, term)))
            ):
                counts.append(f"{file} ({count} {'match' if count == 1 else 'matches'})")
    if not counts:
        return f"No matches found for {term!r} in {path}"
    if len(counts) > MAX_FILES:
        return f"{len(counts)} files match {term!r}: too many. Use a longer search_term."
    return f"Files with {term!r} in {path}:\n" + "\n".join(counts)


if __name__ == "__main__":
    sys.exit(main())
