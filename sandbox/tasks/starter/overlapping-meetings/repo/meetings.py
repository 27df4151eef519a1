"""Meetings in a calendar, as (start, end) in hours."""


def merge_meetings(meetings):
    """Busy times: meetings that overlap or touch become one."""
    merged = []
    for start, end in sorted(meetings):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
