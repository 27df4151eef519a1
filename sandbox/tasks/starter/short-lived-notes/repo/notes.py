"""Notes that vanish after a while."""

from expiry import is_expired


class Notes:
    """The caller passes the time `now`, in seconds."""

    def __init__(self, lifetime):
        self.lifetime = lifetime
        self.texts = {}
        self.written = {}

    def write(self, name, text, now):
        self.texts[name] = text
        self.written.setdefault(name, now)

    def read(self, name, now):
        """The text, or None when there is none or it is too old."""
        if name not in self.texts or is_expired(self.written[name], now, self.lifetime):
            return None
        return self.texts[name]
