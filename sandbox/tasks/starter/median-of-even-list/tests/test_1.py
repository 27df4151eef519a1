from medians import median


def test_four_numbers():
    assert median([1, 2, 3, 9]) == 2.5


def test_odd_count():
    assert median([7, 1, 5]) == 5


def test_two_numbers():
    assert median([4, 8]) == 6


def test_unsorted_even():
    assert median([10, 1, 3, 2]) == 2.5
