"""A small cache that forgets what was not used for longest."""


class RecentCache:
    """Keeps at most `size` values."""

    def __init__(self, size):
        self.size = size
        self.values = {}

    def get(self, key):
        """The value, or None. Reading a value counts as using it."""
        return self.values.get(key)

    def put(self, key, value):
        """Stores a value; the least recently used one makes room."""
        self.values.pop(key, None)
        self.values[key] = value
        if len(self.values) > self.size:
            oldest = next(iter(self.values))
            del self.values[oldest]
