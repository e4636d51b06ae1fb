"""The state of resumable works: what they depend on, who works on them, and files that are complete or not there.

Every work that may be interrupted and called again claims its folder or path. The claim holds a description of all
that its outcome depends on, by content (`describe`), so that it is gone on with only where nothing of that has changed,
and a lock, so that one process works there at a time.
"""

from openmmcg.state.claim import Claim, claim, lock, refuse
from openmmcg.state.content import describe, differences, spread
from openmmcg.state.files import append, read_json, reading, replacing, write_json, write_text
from openmmcg.state.systems import describe_system, system_differences

__all__ = [
    "Claim",
    "append",
    "claim",
    "describe",
    "describe_system",
    "differences",
    "lock",
    "read_json",
    "reading",
    "refuse",
    "replacing",
    "spread",
    "system_differences",
    "write_json",
    "write_text",
]
