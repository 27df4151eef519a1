from versions import is_newer, newest


def test_ten_is_newer_than_nine():
    assert is_newer("1.10", "1.9") is True


def test_nine_is_older_than_ten():
    assert is_newer("1.9", "1.10") is False


def test_same_version():
    assert is_newer("2.0.1", "2.0.1") is False


def test_leading_v():
    assert is_newer("v3.0", "2.12") is True


def test_newest_of_list():
    assert newest(["1.2", "1.12", "1.3"]) == "1.12"
