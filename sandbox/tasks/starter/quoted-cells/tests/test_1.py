from csv_rows import split_row


def test_plain_cells():
    assert split_row("a,b,c") == ["a", "b", "c"]


def test_comma_in_quotes():
    assert split_row('"Paris, France",x') == ["Paris, France", "x"]


def test_two_quoted_cells():
    assert split_row('"a,b","c,d"') == ["a,b", "c,d"]


def test_empty_cells():
    assert split_row(",") == ["", ""]


def test_cells_after_a_quoted_one():
    assert split_row('1,"2",3,4') == ["1", "2", "3", "4"]
