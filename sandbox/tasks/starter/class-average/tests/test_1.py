from averages import average


def test_three_marks():
    assert average([1, 2, 6]) == 3


def test_one_mark():
    assert average([5]) == 5


def test_two_marks():
    assert average([4, 8]) == 6


def test_no_marks():
    assert average([]) == 0
