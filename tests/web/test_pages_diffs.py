"""Patches and transcripts as pages show them: line numbers, pairs, and nothing hostile left."""

import pytest

from webapp.rollouts.diffs import DiffError, coloured, file_diffs, replacement_rows
from webapp.rollouts.models import Rollout, Turn
from webapp.rollouts.plaintext import plain
from webapp.rollouts.siblings import distinct_patches
from webapp.rollouts.transcript import shown_turn

PATCH = """\
diff --git a/prices.py b/prices.py
--- a/prices.py
+++ b/prices.py
@@ -1,4 +1,5 @@
 def total(prices):
-    return sum(prices[1:])
+    found = sum(prices)
+    return found
 
 # <script>alert(1)</script>
"""


def test_rows_have_the_line_numbers_of_both_sides():
    (file,) = file_diffs(PATCH)
    assert (file.path, file.num_added, file.num_removed) == ("prices.py", 2, 1)
    assert [(row.kind, row.old, row.new) for row in file.rows] == [
        ("hunk", None, None),
        ("context", 1, 1),
        ("removed", 2, None),
        ("added", None, 2),
        ("added", None, 3),
        ("context", 3, 4),
        ("context", 4, 5),
    ]


def test_the_split_view_puts_what_replaced_a_line_beside_it():
    (file,) = file_diffs(PATCH)
    sides = [(p.left and p.left.old, p.right and p.right.new) for p in file.pairs[1:]]
    assert sides == [(1, 1), (2, 2), (None, 3), (3, 4), (4, 5)]


def test_code_is_escaped_and_coloured():
    rows = file_diffs(PATCH)[0].rows
    assert "&lt;script&gt;" in rows[-1].code
    assert "<script>" not in rows[-1].code
    assert '<span class="k">def</span>' in rows[1].code


def test_a_file_of_unknown_kind_is_escaped_too():
    assert coloured("x.unknown", "<b>&</b>") == "&lt;b&gt;&amp;&lt;/b&gt;"


def test_a_new_file_and_a_deleted_one_say_so():
    new = "--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+x = 1\n"
    gone = "--- a/b.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-y = 1\n"
    assert [file.what for file in file_diffs(new + gone)] == ["added", "deleted"]


@pytest.mark.parametrize("text", ["not a patch", "--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n torn\n"])
def test_what_is_no_patch_is_refused(text: str):
    with pytest.raises(DiffError):
        file_diffs(text)


def test_no_patch_has_no_file():
    assert file_diffs("") == ()


def test_a_large_file_starts_folded():
    body = "".join(f"+line {i}\n" for i in range(500))
    (file,) = file_diffs(f"--- /dev/null\n+++ b/a.txt\n@@ -0,0 +1,500 @@\n{body}")
    assert file.is_folded


def test_escape_sequences_go_and_control_characters_show():
    assert plain("\x1b[31mred\x1b[0m \x1b]0;title\x07end") == "red end"
    assert plain("a\x00b\x08c\td\r\ne") == "a␀b␈c\td\ne"


@pytest.mark.parametrize("opened", ["\x1b]", "\x1b]8;;x", "\x1bP", "\x1b_"])
def test_a_sequence_that_nothing_ends_hides_nothing(opened: str):
    assert plain(f"$ ls\n{opened}hidden\nmore") == f"$ ls\n␛{opened[1:]}hidden\nmore"
    patch = (
        f"--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+# see {opened}\n"
        "--- /dev/null\n+++ b/conftest.py\n@@ -0,0 +1 @@\n+import os\x1b[2K\n"
    )
    files = file_diffs(patch)
    assert [file.path for file in files] == ["a.py", "conftest.py"]
    assert [sum("␛" in row.code for row in file.rows) for file in files] == [1, 1]


def test_text_that_would_run_backwards_shows_its_marks():
    assert plain("a\u202eb\u200b") == "a‹U+202E›b‹U+200B›"


def test_a_replacement_is_shown_as_removed_and_added_lines():
    rows = replacement_rows("a.py", "return 1", "return 2\n# two")
    assert [row.kind for row in rows] == ["removed", "added", "added"]


def test_an_edit_s_arguments_are_shown_once():
    arguments = {"command": "str_replace", "path": "/testbed/a.py", "old_str": "a", "new_str": "b"}
    turn = shown_turn(Turn(index=2, tool="file_editor", arguments=arguments))
    assert (turn.number, turn.path, turn.arguments) == (3, "/testbed/a.py", [])
    assert turn.summary == "str_replace /testbed/a.py"


def test_a_turn_without_a_call_shows_all_that_was_written():
    turn = shown_turn(Turn(index=0, text="I \x1b[1mthink\x1b[0m", error="no call"))
    assert turn.unparsed == "I think"


def test_identical_patches_are_one():
    rollouts = [Rollout(index=i, patch=p) for i, p in enumerate([PATCH, "", PATCH, "junk"])]
    patches = distinct_patches(rollouts)
    assert [[r.index for r in patch.rollouts] for patch in patches] == [[0, 2], [3]]
    assert [patch.letter for patch in patches] == ["A", "B"]
    assert patches[1].text == "junk"
