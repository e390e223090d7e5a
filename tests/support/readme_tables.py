"""
The tables of README.md that are made from the code: holds, settings, policies, the sandbox's references.

Each stands in README.md between `<!-- table: NAME -->` and `<!-- end -->`.
`python -m tests.support.readme_tables` writes them anew; a test compares them.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from orchestrator.domain.payment import HoldReason
from orchestrator.domain.policy import DIGITAL, PHONE, Policy
from orchestrator.explain import HOLDS
from orchestrator.provider.config import RoleNames as RoleMeanings
from orchestrator.sandbox import SCRIPTS
from orchestrator.settings import AccountSettings, DefinitionPaths, RoleNames, ServiceSettings, Settings, WorkerSettings
from orchestrator.settings.gateways import GatewaySettings
from orchestrator.settings.privacy import PrivacySettings

README = Path(__file__).parent.parent.parent / "README.md"
NOT_A_POLICY = ("dial_prefixes", "backoff")
"""Members of a policy that no setting of `policy` can change."""

_PART = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_ATTRIBUTES = re.compile(r"^Attributes:\n((?:[ ]{4}.*\n?|\n)+)", re.MULTILINE)

_Rows = Iterator[Sequence[str]]


def meanings(documented: type) -> dict[str, str]:
    """Give what a class's docstring says of each attribute; `a, b: text` is said of both."""
    section = _ATTRIBUTES.search(inspect.getdoc(documented) or "")
    joined = re.sub(r"\n {5,}", " ", section[1] if section else "")
    told = (line.strip().partition(": ") for line in joined.splitlines() if ": " in line)
    return {name: text for names, _, text in told for name in names.split(", ")}


def shown(field: FieldInfo) -> str:
    """Give a default as a reader would write it."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, dict):
        return "the bundled words" if value else "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None or value == ():
        return "none"
    text = ", ".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{text.replace('|', chr(92) + '|')}`"


def model_rows(model: type[BaseModel], prefix: str, told: dict[str, str], *, leave_out: Sequence[str] = ()) -> _Rows:
    """One row for each setting of a table."""
    for name, field in model.model_fields.items():
        if name not in leave_out:
            yield f"`{prefix}{name}`", shown(field), told.get(name, "")


def settings_table() -> str:
    """Every setting with its default, tables flattened."""
    own = dict.fromkeys(DefinitionPaths.model_fields, "Path of the account's own document; the bundled one without it.")
    account = "accounts.NAME."
    return table(
        ("setting", "default", "meaning"),
        [
            *model_rows(Settings, "", meanings(Settings), leave_out=("privacy", "worker", "service", "accounts")),
            *model_rows(PrivacySettings, "privacy.", meanings(PrivacySettings)),
            *model_rows(WorkerSettings, "worker.", meanings(WorkerSettings)),
            *model_rows(ServiceSettings, "service.", meanings(ServiceSettings)),
            *model_rows(
                AccountSettings, account, meanings(AccountSettings), leave_out=("definitions", "roles", "gateway")
            ),
            *model_rows(DefinitionPaths, f"{account}definitions.", own),
            *model_rows(RoleNames, f"{account}roles.", meanings(RoleMeanings)),
            *model_rows(GatewaySettings, f"{account}gateway.", meanings(GatewaySettings)),
        ],
    )


def policies_table() -> str:
    """Every number of a policy, with the defaults of both channels."""
    told = meanings(Policy) | {
        f"poll_{part}": f"The rhythm of polls: {what}."
        for part, what in (("first_s", "the first pause"), ("factor", "how it grows"), ("max_s", "the longest pause"))
    }
    told["webhook_alone"] = "A webhook that nobody can confirm any more: `hold` for a person, or `trust` as proof."
    told["on_unknown_start"] = "`hold`: a person must look. `supersede`: start again, with an entry that says so."
    names = [field.name for field in fields(Policy) if field.name not in NOT_A_POLICY]
    rows = [(f"`{name}`", _number(getattr(PHONE, name)), _number(getattr(DIGITAL, name)), told[name]) for name in names]
    return table(("policy", "phone", "digital", "meaning"), rows)


def sandbox_table() -> str:
    """Every documented prefix of a merchant reference."""
    rows = [(f"`{script.prefix}`", script.what, script.ends) for script in SCRIPTS]
    return table(("reference", "what happens", "how the session ends"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a Markdown table."""
    lines = (head, ["---"] * len(head), *rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _number(value: Any) -> str:
    return f"`{value:g}`" if isinstance(value, float | int) else f"`{value}`"


def holds_table() -> str:
    """Every hold, with why and what a person does."""
    rows = [(f"`{hold}`", *HOLDS[hold]) for hold in HoldReason]
    return table(("hold", "why", "what a person does"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "holds": holds_table,
    "settings": settings_table,
    "policies": policies_table,
    "sandbox": sandbox_table,
}


def renewed(text: str) -> str:
    """Give the README's text with every generated table made anew."""
    return _PART.sub(lambda part: f"{part[1]}{TABLES[part[2]]()}{part[3]}", text)


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
