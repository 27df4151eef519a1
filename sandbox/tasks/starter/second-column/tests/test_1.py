from columns import second_column


def test_of_three():
    assert second_column(["a", "b", "c"]) == "b"


def test_of_two():
    assert second_column([10, 20]) == 20


def test_of_a_tuple():
    assert second_column((1, 2, 3, 4)) == 2
