from weather import coldest


def test_of_three():
    assert coldest([4, -2, 9]) == -2


def test_of_one():
    assert coldest([7]) == 7


def test_equal_days():
    assert coldest([3, 3, 3]) == 3


def test_all_below_zero():
    assert coldest([-5, -10, -1]) == -10
