"""How many examples a property test tries: few on each run, all of them where that is asked for."""

from __future__ import annotations

import os

ALL = "TRIO_GW_TEST_EXAMPLES"  # set to `all`: every example, for a run that may take half an hour
SHARE = 10
LEAST = 100


def examples(most: int) -> int:
    """Return `most` where all examples are asked for, else a tenth of it but 100 at least."""
    return most if os.environ.get(ALL) == "all" else min(most, max(LEAST, most // SHARE))
