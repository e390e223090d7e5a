"""
The provider's twin: a real HTTP server that behaves, and misbehaves, on cue.

It serves the token, session and status endpoints as VCC documents them, refuses
what VCC would refuse, and takes its cue for everything else from the prefix of
the merchant reference (`SCRIPTS`, one line each). For demos, for a host's own
tests, and for this project's. It knows nothing of the flow, the definitions or
the store: the orchestrator meets it only over HTTP. Read in this order:
`options`, `script`, `table`, `clock`, `intake`, `bodies`, `sessions`, `webhooks`, `app`, `run`.
"""

from orchestrator.sandbox.options import SandboxOptions
from orchestrator.sandbox.run import Sandbox, serve
from orchestrator.sandbox.script import Script
from orchestrator.sandbox.table import SCRIPTS, load_faults, script_for

__all__ = ["SCRIPTS", "Sandbox", "SandboxOptions", "Script", "load_faults", "script_for", "serve"]
