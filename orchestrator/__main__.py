"""
`python -m orchestrator` is the `orchestrator` command.

Owns nothing. Next: `orchestrator.cli`.
"""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
