"""Durations such as 1h30m."""

SECONDS = {"h": 3600, "m": 60, "s": 1}


def parse_duration(text):
    """Seconds of a duration written with h, m and s."""
    seconds = 0
    digits = ""
    for char in text:
        if char.isdigit():
            digits = char
        else:
            seconds += int(digits) * SECONDS[char]
            digits = ""
    return seconds
