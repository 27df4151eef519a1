"""What R2E-Gym's four tools do for every parameter, and what ours do: the rows of docs/tools.md, as data.

`r2e_gym` is from its documentation and source (github.com/R2E-Gym/R2E-Gym, agenthub/tools, July 2025), in our words. Where
`difference` is empty, ours must do the same; elsewhere it says what we do instead, and why. `expect` and `absent` are what
the observation must and must not hold, so that each row is played, not believed.
"""

from dataclasses import dataclass, field

LONG = "def long():\n" + "".join(f"    step_{n} = {n}\n" for n in range(130)) + "\n\nLAST = 1\n"

REPOSITORY = {
    "calc.py": "import math\n\n\ndef add(a, b):\n    return a - b\n\n\ndef twice(a):\n    return a + a\n",
    "long.py": LONG,
    "notes.txt": "plain notes\n",
    "pkg/mod.py": "X = 1\n",
    "pkg/deep/low/far.py": "Y = 2\n",
    "twins.py": "a = 1\nb = 2\na = 1\n",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call and what comes of it."""

    tool: str
    parameter: str
    """The parameter, or the parameter's value, that the case is about."""
    situation: str
    r2e_gym: str
    calls: tuple[str, ...]
    """What the model writes, turn by turn; the last observation is looked at."""
    expect: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    difference: str = ""
    files: dict[str, str] = field(default_factory=dict)
    """Beside REPOSITORY."""


def call(tool: str, **arguments: str) -> str:
    """A call in the tools' format."""
    parameters = "".join(f"<parameter={k}>{v}</parameter>" for k, v in arguments.items())
    return f"<function={tool}>{parameters}</function>"


def edit(command: str, path: str = "/testbed/calc.py", **arguments: str) -> str:
    return call("file_editor", command=command, path=path, **arguments)


def bash(cmd: str) -> str:
    return call("execute_bash", cmd=cmd)


FIX = edit("str_replace", old_str="return a - b", new_str="return a + b")

EXECUTE_BASH = [
    Case(
        tool="execute_bash",
        parameter="cmd",
        situation="prints on both streams",
        r2e_gym="exit code, then the streams under [STDOUT] and [STDERR]",
        calls=(bash("echo out; echo err >&2; exit 3"),),
        expect=(
            "Exit code: 3\nExecution output of [execute_bash]:\n",
            "[STDOUT]\nout",
            "[STDERR]\nerr",
        ),
    ),
    Case(
        tool="execute_bash",
        parameter="cmd",
        situation="prints nothing on a stream",
        r2e_gym="an empty section for the stream",
        calls=(bash("echo out"),),
        expect=("[STDOUT]\nout",),
        absent=("[STDERR]",),
        difference="The section is left out: fewer tokens, nothing lost.",
    ),
    Case(
        tool="execute_bash",
        parameter="cmd",
        situation="prints more than 80 lines",
        r2e_gym="the first 40, a divider, the last 40",
        calls=(bash("seq 1 200"),),
        expect=("\n1\n", "\n39\n", "lines left out", "\n162\n", "\n200"),
        absent=("\n41\n", "\n160\n"),
    ),
    Case(
        tool="execute_bash",
        parameter="cmd",
        situation="each call is a shell of its own",
        r2e_gym="a new process a call: folder and variables are gone at the next",
        calls=(bash("cd /tmp; export COLOUR=red"), bash("pwd; echo [$COLOUR]")),
        expect=("/testbed\n[]",),
    ),
    Case(
        tool="execute_bash",
        parameter="cmd",
        situation="takes longer than the time limit",
        r2e_gym="a sentence with the limit, exit code -1",
        calls=(bash("echo early; sleep 60"),),
        expect=("Exit code: -1", "early", "took too long to execute (>2s)"),
        difference="What was printed before the limit is shown as well.",
    ),
    Case(
        tool="execute_bash",
        parameter="cmd",
        situation="git",
        r2e_gym="refused, as are ipython, jupyter and nohup",
        calls=(bash("git log --oneline | wc -l"),),
        expect=("Exit code: 0", "[STDOUT]\n1"),
        difference="Nothing is refused: the repository has one commit, so its history tells nothing, "
        "and the time limit ends what waits for input.",
    ),
    Case(
        tool="execute_bash",
        parameter="cmd",
        situation="empty",
        r2e_gym="an empty observation",
        calls=(call("execute_bash", cmd=""),),
        expect=("ERROR: execute_bash needs parameter cmd.",),
        difference="An error that names the parameter and shows a call.",
    ),
]

SEARCH = [
    Case(
        tool="search",
        parameter="search_term",
        situation="in a folder",
        r2e_gym="the .py files that hold it, with the number of lines",
        calls=(call("search", search_term="return"),),
        expect=("/testbed/calc.py (2 matches)",),
        absent=("notes.txt",),
    ),
    Case(
        tool="search",
        parameter="search_term",
        situation="special characters",
        r2e_gym="plain text, not a pattern",
        calls=(call("search", search_term="a + a"),),
        expect=("/testbed/calc.py (1 match)",),
    ),
    Case(
        tool="search",
        parameter="search_term",
        situation="found nowhere",
        r2e_gym="a sentence that says so",
        calls=(call("search", search_term="nowhere-to-be-found"),),
        expect=("No matches found for 'nowhere-to-be-found'",),
    ),
    Case(
        tool="search",
        parameter="search_term",
        situation="in more than 100 files",
        r2e_gym="refused, with the advice to narrow it",
        calls=(call("search", search_term="common"),),
        files={f"many/m{n}.py": "common = 1\n" for n in range(101)},
        expect=("101 files match 'common': too many",),
    ),
    Case(
        tool="search",
        parameter="path",
        situation="a file",
        r2e_gym="the lines with their numbers",
        calls=(call("search", search_term="return", path="/testbed/calc.py"),),
        expect=("5:    return a - b", "9:    return a + a"),
    ),
    Case(
        tool="search",
        parameter="path",
        situation="left out",
        r2e_gym="the current folder",
        calls=(call("search", search_term="X = 1"),),
        expect=("/testbed/pkg/mod.py",),
    ),
    Case(
        tool="search",
        parameter="path",
        situation="does not exist",
        r2e_gym="an error",
        calls=(call("search", search_term="x", path="/testbed/none.py"),),
        expect=("ERROR: The path /testbed/none.py does not exist.",),
    ),
]

FILE_EDITOR = [
    Case(
        tool="file_editor",
        parameter="command: view",
        situation="a short .py file",
        r2e_gym="the lines, each after its number and a space; after edits, a tab",
        calls=(edit("view"),),
        expect=("     1\timport math", "     5\t    return a - b"),
        difference="A tab everywhere, as `cat -n` has it.",
    ),
    Case(
        tool="file_editor",
        parameter="command: view",
        situation="a .py file of more than 110 lines",
        r2e_gym="function bodies of four lines or more are left out",
        calls=(edit("view", "/testbed/long.py"),),
        expect=("def long():", "LAST = 1", "130 lines hidden"),
        absent=("step_50",),
    ),
    Case(
        tool="file_editor",
        parameter="command: view",
        situation="a file that is not Python",
        r2e_gym="refused",
        calls=(edit("view", "/testbed/notes.txt"),),
        expect=("     1\tplain notes",),
        difference="Shown: fixes also live in data, documentation and configuration.",
    ),
    Case(
        tool="file_editor",
        parameter="command: view",
        situation="a folder",
        r2e_gym="folders and .py files, two levels deep",
        calls=(edit("view", "/testbed"),),
        expect=("/testbed/calc.py", "/testbed/pkg/mod.py", "/testbed/notes.txt"),
        absent=("far.py",),
        difference="Other files are listed too, since they can be viewed; hidden ones are not.",
    ),
    Case(
        tool="file_editor",
        parameter="view_range",
        situation="within the file",
        r2e_gym="these lines, whole",
        calls=(edit("view", "/testbed/long.py", view_range="[51, 53]"),),
        expect=("    51\t    step_49 = 49", "    53\t    step_51 = 51"),
        absent=("step_52", "hidden"),
    ),
    Case(
        tool="file_editor",
        parameter="view_range",
        situation="[n, -1]",
        r2e_gym="to the end of the file",
        calls=(edit("view", view_range="[8, -1]"),),
        expect=("     8\tdef twice(a):", "     9\t    return a + a"),
        absent=("import math",),
    ),
    Case(
        tool="file_editor",
        parameter="view_range",
        situation="no range, or no two numbers",
        r2e_gym="an error",
        calls=(edit("view", view_range="[9, 3]"),),
        expect=("ERROR: view_range [9, 3] is not valid: the file has lines 1 to 9.",),
    ),
    Case(
        tool="file_editor",
        parameter="view_range",
        situation="ends behind the file",
        r2e_gym="an error",
        calls=(edit("view", view_range="[8, 40]"),),
        expect=("     9\t    return a + a",),
        difference="Shown to the end of the file: what was meant is plain.",
    ),
    Case(
        tool="file_editor",
        parameter="concise",
        situation="true, for a short file",
        r2e_gym="function bodies of four lines or more are left out, however short the file",
        calls=(edit("view", "/testbed/body.py", concise="true"),),
        files={"body.py": "def f():\n" + "".join(f"    x{n} = {n}\n" for n in range(4))},
        expect=("def f():", "4 lines hidden"),
        absent=("x3 = 3",),
    ),
    Case(
        tool="file_editor",
        parameter="concise",
        situation="true, for a file that does not parse",
        r2e_gym="an error",
        calls=(edit("view", "/testbed/broken.py", concise="true"),),
        files={"broken.py": "def f(:\n"},
        expect=("     1\tdef f(:",),
        difference="The file is shown whole: the agent may be about to mend it.",
    ),
    Case(
        tool="file_editor",
        parameter="path",
        situation="relative",
        r2e_gym="taken from the current folder, /testbed",
        calls=(edit("view", "pkg/mod.py"),),
        expect=("     1\tX = 1",),
    ),
    Case(
        tool="file_editor",
        parameter="path",
        situation="does not exist",
        r2e_gym="an error",
        calls=(edit("view", "/testbed/src/mod.py"),),
        expect=("ERROR: The path /testbed/src/mod.py does not exist.", "/testbed/pkg/mod.py"),
        difference="The error names files that exist.",
    ),
    Case(
        tool="file_editor",
        parameter="command: create, file_text",
        situation="a new file",
        r2e_gym="created, shown, with advice to review it",
        calls=(edit("create", "/testbed/a.py", file_text="A = 1"),),
        expect=("File created successfully at: /testbed/a.py",),
        absent=("A = 1",),
        difference="Created; what the model has just written is not repeated.",
    ),
    Case(
        tool="file_editor",
        parameter="command: create, file_text",
        situation="in a folder that does not exist",
        r2e_gym="an error",
        calls=(edit("create", "/testbed/new/a.py", file_text="A = 1"), bash("cat new/a.py")),
        expect=("A = 1",),
        difference="The folder is made.",
    ),
    Case(
        tool="file_editor",
        parameter="command: create, file_text",
        situation="the file exists",
        r2e_gym="refused",
        calls=(edit("create", file_text="x"),),
        expect=("ERROR: File already exists at: /testbed/calc.py.",),
    ),
    Case(
        tool="file_editor",
        parameter="command: str_replace, old_str, new_str",
        situation="old_str occurs once",
        r2e_gym="replaced; four lines on each side are shown, with advice to review them",
        calls=(FIX,),
        expect=(
            "The file /testbed/calc.py has been edited:",
            "     1\timport math",
            "     5\t    return a + b",
            "     9\t    return a + a",
        ),
        absent=("Review",),
        difference="The same lines without the advice, which a trained model pays for in every edit.",
    ),
    Case(
        tool="file_editor",
        parameter="command: str_replace, old_str, new_str",
        situation="old_str occurs more than once",
        r2e_gym="refused",
        calls=(edit("str_replace", "/testbed/twins.py", old_str="a = 1", new_str="a = 3"),),
        expect=("ERROR: No replacement performed: old_str appears 2 times (lines 1, 3).",),
        difference="The error names the lines.",
    ),
    Case(
        tool="file_editor",
        parameter="command: str_replace, old_str, new_str",
        situation="old_str does not occur",
        r2e_gym="refused",
        calls=(edit("str_replace", old_str="return a-b", new_str="x"),),
        expect=("did not appear verbatim", "Closest line: `return a - b`"),
        difference="The error quotes the closest line.",
    ),
    Case(
        tool="file_editor",
        parameter="new_str",
        situation="left out of str_replace",
        r2e_gym="old_str is removed",
        calls=(edit("str_replace", old_str="import math"), bash("grep -c math calc.py")),
        expect=("[STDOUT]\n0",),
    ),
    Case(
        tool="file_editor",
        parameter="command: insert, insert_line",
        situation="within the file",
        r2e_gym="new_str stands after that line; the lines around it are shown",
        calls=(edit("insert", insert_line="1", new_str="import os"),),
        expect=("     1\timport math\n     2\timport os",),
    ),
    Case(
        tool="file_editor",
        parameter="command: insert, insert_line",
        situation="beyond the file, or no number",
        r2e_gym="an error",
        calls=(edit("insert", insert_line="99", new_str="x"),),
        expect=("ERROR: insert_line 99 is not valid: give 0 to ",),
    ),
    Case(
        tool="file_editor",
        parameter="command: undo_edit",
        situation="after an edit",
        r2e_gym="the file is as before the last edit of it, and shown whole",
        calls=(FIX, edit("undo_edit"), bash("sed -n 5p calc.py")),
        expect=("return a - b",),
        difference="Undone; the file is not shown.",
    ),
    Case(
        tool="file_editor",
        parameter="command: undo_edit",
        situation="after create",
        r2e_gym="the file is empty",
        calls=(
            edit("create", "/testbed/a.py", file_text="A = 1"),
            edit("undo_edit", "/testbed/a.py"),
            bash("ls a.py"),
        ),
        expect=("No such file",),
        difference="The file is gone, as it was before.",
    ),
    Case(
        tool="file_editor",
        parameter="command: undo_edit",
        situation="without an edit",
        r2e_gym="an error",
        calls=(edit("undo_edit"),),
        expect=("ERROR: No edit of /testbed/calc.py to undo.",),
    ),
    Case(
        tool="file_editor",
        parameter="command",
        situation="unknown",
        r2e_gym="an error with the commands that there are",
        calls=(edit("delete"),),
        expect=("ERROR: Unknown command 'delete' of file_editor. Use one of: view, create,",),
    ),
    Case(
        tool="file_editor",
        parameter="enable_linting",
        situation="true, and the edit leaves a .py file that does not parse",
        r2e_gym="refused; any value at all counts as true",
        calls=(edit("str_replace", old_str="add(a", new_str="add((a", enable_linting="true"),),
        expect=("ERROR: Nothing was changed: /testbed/calc.py would not be valid Python",),
        difference="Only `true` counts as true.",
    ),
]

FINISH = [
    Case(
        tool="finish",
        parameter="command, result",
        situation="given or left out",
        r2e_gym="the episode ends; what the result says is not judged",
        calls=(call("finish", command="submit", result="done"),),
        expect=("<<<Finished>>>",),
    ),
]

FORMAT = [
    Case(
        tool="any",
        parameter="the call",
        situation="none in the reply",
        r2e_gym="in training an empty observation",
        calls=("I think that I am done.",),
        expect=("ERROR: No tool call found. Reply with one call, like <function=execute_bash>",),
        difference="An error that shows a call.",
    ),
    Case(
        tool="any",
        parameter="the call",
        situation="two in the reply",
        r2e_gym="the first is run",
        calls=(bash("echo first") + bash("echo second"),),
        expect=("first",),
        absent=("second",),
    ),
    Case(
        tool="any",
        parameter="the call",
        situation="an unknown tool",
        r2e_gym="an empty observation: the error is lost",
        calls=(call("browse", url="x"),),
        expect=("ERROR: Unknown tool 'browse'. Use one of: execute_bash, search, file_editor",),
        difference="An error with the tools that there are.",
    ),
    Case(
        tool="any",
        parameter="the call",
        situation="an unknown parameter",
        r2e_gym="the tool's usage text on standard error",
        calls=(call("search", search_term="x", folder="/"),),
        expect=("ERROR: search has no parameter 'folder'. It takes: search_term, path.",),
        difference="One sentence with the parameters that there are.",
    ),
    Case(
        tool="any",
        parameter="the call",
        situation="a tag that is not closed",
        r2e_gym="no call is found",
        calls=("<function=search><parameter=search_term>x",),
        expect=("ERROR: Missing </parameter> after parameter 'search_term'.",),
        difference="The error names the tag.",
    ),
]

CASES = [*EXECUTE_BASH, *SEARCH, *FILE_EDITOR, *FINISH, *FORMAT]
