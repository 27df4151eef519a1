from cleaning import drop_blank


def test_empty_lines():
    assert drop_blank(["a", "", "b"]) == ["a", "b"]


def test_lines_of_spaces():
    assert drop_blank(["a", "   ", "b"]) == ["a", "b"]


def test_tabs():
    assert drop_blank(["\t", "x"]) == ["x"]


def test_indentation_is_kept():
    assert drop_blank(["  a"]) == ["  a"]
