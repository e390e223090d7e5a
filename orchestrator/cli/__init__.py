"""
The command line: a thin shell over the host API, for engineers, operators and compliance staff.

Typer and Rich have their home here. Commands read arguments, call what a host
could call, and print; they decide nothing. Exit status: 0 fine, 1 findings, 2
usage or configuration, 3 something needed is unavailable, 70 a defect of this
program, 128 + n ended by signal n.

Read in this order: `session` (what all commands share), `app` (the commands),
`payments`, `queries`, `watch`, `run`, `processes`, `definitions`, `accounts`,
`account_check`, `database`, `erase`, `audit`, `upgrade`, `diagram`, `records` and `show` (how things
are written), `exits`, `refused`, then the demo: `demo_script`,
`children`, `demo`, `demo_view`, `demo_check`, `demo_handlers`.
"""

from orchestrator.cli.app import main

__all__ = ["main"]
