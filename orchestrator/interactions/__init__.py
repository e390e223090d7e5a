"""
The `<ApiInteraction>` language: the provider's calls as data.

A document is parsed once into a definition, whose templates know for every
placeholder the place it stands in; a render only encodes values. Literal
secrets are lifted out at parse time. No I/O but reading the bundled documents;
`defusedxml` lives here, an HTTP client does not.

Read in this order: `model`, `document`, `lex`, `body`, `url`, `lift`, `grammar`,
`parse`, `write`, `render`, `extract`, `lint`.
"""

from importlib.resources import files

from orchestrator.domain.errors import InvalidInput
from orchestrator.interactions.extract import Unreadable, extract, locate, read_json
from orchestrator.interactions.lint import Finding, lint
from orchestrator.interactions.model import BodyKind, Definition, Field, Place, Placeholder, Secret, Template
from orchestrator.interactions.parse import parse
from orchestrator.interactions.render import Rendered, digest_of, fields_to_collect, render, render_headers

__all__ = [
    "BUNDLED",
    "BodyKind",
    "Definition",
    "Field",
    "Finding",
    "Place",
    "Placeholder",
    "Rendered",
    "Secret",
    "Template",
    "Unreadable",
    "bundled",
    "digest_of",
    "extract",
    "fields_to_collect",
    "lint",
    "locate",
    "parse",
    "read_json",
    "render",
    "render_headers",
]

BUNDLED = ("authorize", "start_phone_session", "start_digital_session", "session_status")


def bundled(name: str) -> str:
    """
    The text of a bundled document.

    Args:
        name: One of `BUNDLED`.

    Raises:
        InvalidInput: There is no such document.
    """
    if name not in BUNDLED:
        raise InvalidInput("name", "is not a bundled definition", f"one of {', '.join(BUNDLED)}")
    return (files(__name__) / "bundled" / f"{name}.xml").read_text(encoding="utf-8")
