"""
The trail's auditor: reads, never writes, trusts neither worker nor database.

`chain` checks entries against each other and against the machine, `invariants`
what a payment's whole story must fulfil, `verify` walks a database, `export`
writes one down and reads it back, `upgrade` replays an older release's. For people's own
controls: `completeness`, `sample`, `rules` and `review`, `statement`, `matching` and `reconcile`.
Next: `chain`.
"""

from orchestrator.audit.verify import Finding, Report, verify

__all__ = ["Finding", "Report", "verify"]
