from recent import RecentCache


def test_reading_keeps_a_value():
    c = RecentCache(2)
    c.put("a", 1)
    c.put("b", 2)
    c.get("a")
    c.put("c", 3)
    assert c.get("a") == 1


def test_the_unread_value_goes():
    c = RecentCache(2)
    c.put("a", 1)
    c.put("b", 2)
    c.get("a")
    c.put("c", 3)
    assert c.get("b") is None


def test_missing_key():
    assert RecentCache(1).get("x") is None


def test_writing_again_keeps_a_value():
    c = RecentCache(2)
    c.put("a", 1)
    c.put("b", 2)
    c.put("a", 9)
    c.put("c", 3)
    assert (c.get("a"), c.get("b")) == (9, None)


def test_missing_key_is_not_stored():
    c = RecentCache(1)
    c.put("a", 1)
    c.get("x")
    assert c.get("a") == 1
