from order_check import is_sorted


def test_in_order():
    assert is_sorted([1, 2, 2, 5]) is True


def test_out_of_order():
    assert is_sorted([1, 3, 2]) is False


def test_falling():
    assert is_sorted([3, 2, 1]) is False


def test_short_lists():
    assert is_sorted([]) is True and is_sorted([4]) is True
