from counting import count_up


def test_to_three():
    assert count_up(3) == [1, 2, 3]


def test_to_one():
    assert count_up(1) == [1]


def test_to_zero_is_empty():
    assert count_up(0) == []


def test_to_ten():
    assert count_up(10) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
