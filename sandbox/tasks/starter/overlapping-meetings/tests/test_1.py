from meetings import merge_meetings


def test_one_inside_another():
    assert merge_meetings([(9, 17), (10, 11)]) == [(9, 17)]


def test_overlap():
    assert merge_meetings([(9, 11), (10, 12)]) == [(9, 12)]


def test_touching():
    assert merge_meetings([(9, 10), (10, 11)]) == [(9, 11)]


def test_apart():
    assert merge_meetings([(14, 15), (9, 10)]) == [(9, 10), (14, 15)]


def test_long_one_swallows_two():
    assert merge_meetings([(8, 18), (9, 10), (12, 13)]) == [(8, 18)]
