from merging import merge


def test_user_wins():
    assert merge({"size": 1}, {"size": 5}) == {"size": 5}


def test_both_kept():
    assert merge({"a": 1}, {"b": 2}) == {"a": 1, "b": 2}


def test_defaults_are_untouched():
    defaults = {"size": 1}
    merge(defaults, {"size": 5})
    assert defaults == {"size": 1}


def test_user_is_untouched():
    user = {"a": 2}
    merge({"b": 1}, user)
    assert user == {"a": 2}
