"""What ends a run early. Whatever waits or loops asks `stopping()` and raises this; `trainer.train` then saves."""


class RunStopped(Exception):
    """The run was asked to stop: what was going on is given up."""
