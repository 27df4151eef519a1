from medals import silver


def test_three_scores():
    assert silver([7, 9, 8]) == 8


def test_shared_gold():
    assert silver([9, 9, 5]) == 5


def test_everyone_equal():
    assert silver([4, 4]) is None


def test_two_scores():
    assert silver([1, 2]) == 1
