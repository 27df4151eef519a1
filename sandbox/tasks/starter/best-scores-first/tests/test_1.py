from ranking import rank


def test_best_first():
    assert rank([3, 9, 5]) == [9, 5, 3]


def test_empty():
    assert rank([]) == []


def test_ties_are_kept():
    assert rank([2, 7, 2]) == [7, 2, 2]


def test_input_is_untouched():
    scores = [1, 2]
    rank(scores)
    assert scores == [1, 2]
