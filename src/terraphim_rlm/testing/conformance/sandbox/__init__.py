"""The cases of `--kind sandbox`."""

from __future__ import annotations

from terraphim_rlm.testing.conformance.model import Case
from terraphim_rlm.testing.conformance.sandbox.concurrency import CONCURRENCY
from terraphim_rlm.testing.conformance.sandbox.files import FILES
from terraphim_rlm.testing.conformance.sandbox.hostile import HOSTILE
from terraphim_rlm.testing.conformance.sandbox.isolation import ISOLATION
from terraphim_rlm.testing.conformance.sandbox.languages import LANGUAGES
from terraphim_rlm.testing.conformance.sandbox.lifecycle import CAPABILITIES, LIFECYCLE
from terraphim_rlm.testing.conformance.sandbox.limits import LIMITS
from terraphim_rlm.testing.conformance.sandbox.output import CALLBACK, OUTPUT
from terraphim_rlm.testing.conformance.sandbox.rollback import BRANCH, ROLLBACK
from terraphim_rlm.testing.conformance.sandbox.shell import SHELL, STDIN
from terraphim_rlm.testing.conformance.sandbox.snapshots import DIFF, SNAPSHOTS
from terraphim_rlm.testing.conformance.sandbox.state import BASH, STATE
from terraphim_rlm.testing.conformance.sandbox.status import STATUS
from terraphim_rlm.testing.conformance.sandbox.streams import STATISTICS, STREAM
from terraphim_rlm.testing.conformance.sandbox.timeouts import TIMEOUTS

GROUPS = (
    STATUS, OUTPUT, CALLBACK, TIMEOUTS, STATE, BASH, SHELL, STDIN, CONCURRENCY, LIMITS, ISOLATION, HOSTILE,
    LIFECYCLE, CAPABILITIES, LANGUAGES, FILES, STREAM, STATISTICS, SNAPSHOTS, DIFF,
    ROLLBACK, BRANCH,
)  # fmt: skip
CASES: tuple[Case, ...] = tuple(case for group in GROUPS for case in group.cases)
