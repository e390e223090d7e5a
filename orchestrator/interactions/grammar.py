"""
Which elements a definition has, and where.

Owns the grammar, nothing about what the texts mean. It reports every fault
through a callback instead of raising the first. Next: `parse`.

The grammar is that of the vendor's Data Connector pages, which show no
attribute anywhere.
"""

from collections import Counter
from collections.abc import Callable

from orchestrator.interactions.document import Element

ROOT = "ApiInteraction"

# Parent, then child and how often it stands there: 1, ? (at most once) or * (any number).
_CHILDREN: dict[str, dict[str, str]] = {
    ROOT: {"Request": "1", "Response": "1"},
    "Request": {"Url": "1", "Method": "1", "Headers": "?", "Body": "?"},
    "Headers": {"Header": "*"},
    "Header": {"Key": "1", "Value": "1"},
    "Response": {"Type": "1", "ResponseCodeDestination": "?", "Fields": "?"},
    "Fields": {"Field": "*"},
    "Field": {"Locator": "1", "Destination": "1", "DataType": "?"},
}

Report = Callable[[int, str, str, str], None]


def check_grammar(root: Element, report: Report) -> None:
    """
    Report every element and attribute that doesn't belong, and every one that is missing.

    Args:
        root: The document.
        report: Gets line, element (`Request/Url`), problem and fix.
    """
    if root.name != ROOT:
        report(root.line, root.name[:60], "is an unknown document", f"the outermost element is {ROOT}")
        return
    _check(root, "", report)


def _check(element: Element, path: str, report: Report) -> None:
    if element.attributes:
        report(element.line, path or ROOT, "has attributes", "the language has none; remove them")
    allowed = _CHILDREN.get(element.name, {})
    if allowed and element.own_text().strip():
        report(element.line, path or ROOT, "has text between its elements", f"expected {', '.join(allowed)}")
    counts = Counter(child.name for child in element.children())
    for name, often in allowed.items():
        if often == "1" and not counts[name]:
            report(element.line, _below(path, name), "is missing", f"add <{name}>")
    seen: set[str] = set()
    for child in element.children():
        below = _below(path, child.name)
        if child.name not in allowed:
            report(child.line, below, "is an unknown element", f"expected {', '.join(allowed) or 'text only'}")
        elif child.name in seen and allowed[child.name] != "*":
            report(child.line, below, "stands here twice", "keep one")
        else:
            _check(child, below, report)
        seen.add(child.name)


def _below(path: str, name: str) -> str:
    return f"{path}/{name[:60]}".removeprefix("/")
