"""
The one written form of a definition.

Owns the text that is stored and digested. Layout and comments of the original
are gone, secrets too, since the sources come in masked. A change here changes
every digest, and payments in flight are pinned to digests. Must not know what
the texts mean. Next: `render`.
"""

from collections.abc import Sequence

from orchestrator.interactions.document import write_text
from orchestrator.interactions.model import Field


def write_definition(
    *,
    url: str,
    method: str,
    headers: Sequence[tuple[str, str]],
    body: str,
    response_type: str,
    code: str | None,
    fields: Sequence[Field],
) -> str:
    """
    Write a document that parses to the same definition, and that writes itself.

    Args:
        url: As in the document, placeholders included; likewise the rest.
        method: In capitals.
        headers: Keys and values in order.
        body: Without outer blanks.
        response_type: `JSON` or `XML`.
        code: The response code's destination, if any.
        fields: In order.
    """
    lines = ["<ApiInteraction>", "  <Request>", _tag(2, "Url", url), _tag(2, "Method", method), "    <Headers>"]
    for key, value in headers:
        lines += ["      <Header>", _tag(4, "Key", key), _tag(4, "Value", value), "      </Header>"]
    lines += ["    </Headers>", _tag(2, "Body", body), "  </Request>", "  <Response>", _tag(2, "Type", response_type)]
    lines += [_tag(2, "ResponseCodeDestination", code)] if code else []
    lines += ["    <Fields>"]
    for field in fields:
        names = (_tag(4, "Locator", field.locator), _tag(4, "Destination", field.destination))
        lines += ["      <Field>", *names, _tag(4, "DataType", field.data_type), "      </Field>"]
    return "\n".join([*lines, "    </Fields>", "  </Response>", "</ApiInteraction>", ""])


def _tag(depth: int, name: str, text: str) -> str:
    return f"{'  ' * depth}<{name}>{write_text(text)}</{name}>"
