"""Which sandboxes there are, as the workers page shows it. Pure reading of the newest sweeps."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sandbox.available import REMEDIES
from webapp.sandboxes.models import Sweep, SweepStatus


@dataclass(frozen=True, kw_only=True)
class BackendCount:
    """The sandboxes of one backend at the time of a sweep."""

    name: str
    held: int
    expired: int
    """Lease run out, or holder dead: the next removal takes them."""
    first_end: datetime | None
    """When the first lease of those held runs out, if nobody renews it."""
    last_end: datetime | None
    unreached: str
    """Why nothing is known of it; empty when it answered."""

    @property
    def recorded(self) -> int:
        return self.held + self.expired


@dataclass(frozen=True, kw_only=True)
class Overview:
    under_way: Sweep | None
    seen: Sweep | None
    """The newest that told what there is."""
    backends: list[BackendCount]
    removal: Sweep | None
    """The newest removal that ended, however."""


def overview() -> Overview:
    seen = Sweep.objects.filter(status=SweepStatus.FINISHED).first()
    return Overview(
        under_way=Sweep.objects.under_way().first(),
        seen=seen,
        backends=[_count(seen, name) for name in REMEDIES] if seen else [],
        removal=Sweep.objects.ended().filter(removes=True).first(),
    )


def _count(sweep: Sweep, name: str) -> BackendCount:
    rows = sweep.recorded.get(name, [])
    held = [row for row in rows if not row["abandoned"]]
    ends = [datetime.fromtimestamp(row["expires"], UTC) for row in held]
    return BackendCount(
        name=name,
        held=len(held),
        expired=len(rows) - len(held),
        first_end=min(ends, default=None),
        last_end=max(ends, default=None),
        unreached=sweep.unavailable.get(name, ""),
    )
