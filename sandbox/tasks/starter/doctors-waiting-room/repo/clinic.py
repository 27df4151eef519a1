"""The waiting room of a clinic."""

from triage import priority


class WaitingRoom:
    """Calls patients by priority, and by arrival among equals."""

    def __init__(self):
        self.patients = []

    def arrive(self, name, kind):
        self.patients.append((priority(kind), name))

    def call_next(self):
        self.patients.sort()
        return self.patients.pop(0)[1]
