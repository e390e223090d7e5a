"""
HTTP for people and providers; FastAPI and uvicorn live here.

    app      routes: webhooks in, health and metrics out
    run      the server, its socket and its end

Must not know the settings: the command line hands everything in. Read `app` first.
"""

from orchestrator.service.app import create_app
from orchestrator.service.run import serve

__all__ = ["create_app", "serve"]
