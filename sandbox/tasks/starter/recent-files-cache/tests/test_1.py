from recent import RecentCache


def test_reading_keeps_a_value():
    cache = RecentCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)
    assert cache.get("a") == 1


def test_the_unread_value_goes():
    cache = RecentCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)
    assert cache.get("b") is None


def test_missing_key():
    assert RecentCache(1).get("x") is None


def test_writing_again_keeps_a_value():
    cache = RecentCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.put("a", 9)
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b")) == (9, None)


def test_missing_key_is_not_stored():
    cache = RecentCache(1)
    cache.put("a", 1)
    cache.get("x")
    assert cache.get("a") == 1
