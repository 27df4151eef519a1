"""The volume knob of a radio."""


def set_volume(level, lowest=0, highest=10):
    return max(lowest, max(highest, level))
