"""Keep the C heap's freed pages in this process: an update allocates and frees the same gigabytes in every micro-batch,
and faulting them in again costs more than the arithmetic on them. glibc only; elsewhere it does nothing."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_pages() -> bool:
    """True when glibc took the settings. Call before the first large allocation."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20))
    return all(mallopt(option, value) == 1 for option, value in settings)
