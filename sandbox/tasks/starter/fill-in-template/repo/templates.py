"""Letters with gaps, such as `Dear {name}`."""

import re

GAP = re.compile(r"{(\w+)}")


def fill(template, values):
    """The template with its gaps filled. A gap that has no value stays as it is."""

    def value_of(match):
        return str(values.get(match.group(1), ""))

    return GAP.sub(value_of, template)
