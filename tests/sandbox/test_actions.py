"""The call format, and errors that teach."""

import pytest

from sandbox.actions import EDITOR_COMMANDS, TOOLS, parse


def test_a_call_is_read_with_its_thought() -> None:
    parsed = parse(
        "First look.\n<function=search><parameter=search_term>x</parameter></function> later"
    )
    assert parsed.error == ""
    assert parsed.thought == "First look."
    assert parsed.action is not None
    assert (parsed.action.tool, parsed.action.arguments) == ("search", {"search_term": "x"})


def test_one_newline_at_each_end_goes_and_indentation_stays() -> None:
    text = """<function=file_editor>
<parameter=command>
str_replace
</parameter>
<parameter=path>a.py</parameter>
<parameter=old_str>
    return 1

</parameter>
<parameter=new_str>    return 2</parameter>
</function>"""
    action = parse(text).action
    assert action is not None
    assert action.arguments["command"] == "str_replace"
    assert action.arguments["old_str"] == "    return 1\n"
    assert action.arguments["new_str"] == "    return 2"


def test_the_first_of_two_calls_counts() -> None:
    action = parse("<function=finish></function><function=search></function>").action
    assert action is not None
    assert action.tool == "finish"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No tool call found"),
        ("I am done.", "No tool call found"),
        (
            "<function=search><parameter=search_term>x",
            "Missing </parameter> after parameter 'search_term'",
        ),
        ("<function=search><parameter=search_term>x</parameter>", "Missing </function>"),
        ("<function=finish>", "Missing </function>"),
        ("<function=></function>", "names no tool"),
        (
            "<function=python></function>",
            "Unknown tool 'python'. Use one of: execute_bash, search, file_editor, finish",
        ),
        ("<function=execute_bash></function>", "needs parameter cmd"),
        ("<function=execute_bash><parameter=cmd> </parameter></function>", "needs parameter cmd"),
        ("<function=search><parameter=term>x</parameter></function>", "no parameter 'term'"),
        ("<function=execute_bash><parameter=cmd>a\0b</parameter></function>", "NUL"),
        (
            f"<function=execute_bash><parameter=cmd>{'x' * 200_000}</parameter></function>",
            "longer than",
        ),
        (
            "<function=file_editor><parameter=command>edit</parameter><parameter=path>a</parameter></function>",
            "'edit'",
        ),
        (
            "<function=file_editor><parameter=command>create</parameter><parameter=path>a</parameter></function>",
            "create needs parameter file_text",
        ),
    ],
)
def test_what_cannot_be_run_is_explained_briefly(text: str, said: str) -> None:
    error = parse(text).error
    assert said in error
    assert len(error) < 260


def test_an_unknown_tool_is_kept_as_written() -> None:
    action = parse("<function=python><parameter=code>1</parameter></function>").action
    assert action is not None
    assert (action.tool, action.arguments) == ("python", {"code": "1"})


def test_every_example_that_errors_show_can_be_run() -> None:
    for name, tool in TOOLS.items():
        parsed = parse(tool.example)
        assert parsed.error == ""
        assert parsed.action is not None
        assert parsed.action.tool == name


def test_every_editor_command_needs_known_parameters() -> None:
    known = TOOLS["file_editor"].required + TOOLS["file_editor"].optional
    assert all(set(needed) <= set(known) for needed in EDITOR_COMMANDS.values())
