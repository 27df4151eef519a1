from settings_line import read_setting


def test_plain():
    assert read_setting("color = red") == ("color", "red")


def test_equals_sign_in_value():
    assert read_setting("sum = a=b") == ("sum", "a=b")


def test_many_equals_signs():
    assert read_setting("x===") == ("x", "==")


def test_empty_value():
    assert read_setting("name=") == ("name", "")
