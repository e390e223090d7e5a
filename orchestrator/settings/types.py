"""
The kinds of values that settings are made of: references, URLs, files, lists.

Owns the checks of single values and the error that a check raises; no error
shows a value. Knows no setting by name. Next: `gateways`.
"""

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo
from pydantic_core import PydanticCustomError

from orchestrator.domain.errors import ConfigurationError, InvalidInput
from orchestrator.domain.money import Money
from orchestrator.privacy.secret import Secret, is_reference, resolve_secret

_URL_FIX = "write it like https://emea.cc.vonage.com"
_REFERENCE_FIX = "give a reference: env:NAME or file:PATH"


class Frozen(BaseModel):
    """A table of settings: unknown names are refused, nothing changes later, no error shows a value."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What references in settings are looked up in.

    Attributes:
        environ: The environment of `env:NAME`.
        base_dir: What relative paths start from: the directory of the settings file.
    """

    environ: Mapping[str, str]
    base_dir: Path


def wrong(problem: str, fix: str = "", *, below: Sequence[str] = ()) -> PydanticCustomError:
    """
    Give the error for a validator to raise.

    Args:
        problem: What is wrong, without the value.
        fix: What would be accepted.
        below: The rest of the setting's name, when a whole table was looked at.
    """
    return PydanticCustomError("setting", "{problem}", {"problem": problem, "fix": fix, "below": tuple(below)})


def surroundings(info: ValidationInfo) -> Surroundings:
    """Give what references are looked up in; without a loader that is the process's own environment."""
    return (info.context or {}).get("surroundings") or Surroundings(os.environ, Path.cwd())


def resolved(reference: str, info: ValidationInfo) -> Secret:
    """Follow a reference to its secret."""
    around = surroundings(info)
    try:
        return resolve_secret(reference, key="", environ=around.environ, base_dir=around.base_dir)
    except ConfigurationError as error:
        problem, fix = error.problem, error.fix
    raise wrong(problem, fix)


def masked(secret: Secret | None) -> str | None:
    """Show where a secret comes from instead of the secret."""
    if secret is None:
        return None
    return f"*** ({secret.origin})" if secret.origin else "***"


def is_loopback(host: str) -> bool:
    """Tell whether a host of a URL is this machine by its very name."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def words(value: object) -> object:
    """Split a text at commas, which is how a variable gives a list."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _secret(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        return resolved(value, info)
    if value is None or isinstance(value, Secret):
        return value
    raise wrong("is not a reference to a secret", _REFERENCE_FIX)


def _secret_or_text(value: object, info: ValidationInfo) -> object:
    return Secret(value) if isinstance(value, str) and not is_reference(value) else _secret(value, info)


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise wrong("is not a URL", _URL_FIX) from None
    if not value.isascii() or re.search(r"[\s\\\x00-\x1f\x7f]", value):
        raise wrong("holds a character that no URL has", _URL_FIX)
    if "@" in parts.netloc:
        raise wrong("holds a user name or password", "use client_id and client_secret")
    if parts.scheme not in ("https", "http") or not parts.hostname or not port_is_valid:
        raise wrong("is not an absolute https URL", _URL_FIX)
    if "?" in value or "#" in value:
        raise wrong("has a query or a fragment", _URL_FIX)
    if any(step in (".", "..") for step in parts.path.split("/")):
        raise wrong("has . or .. in its path", _URL_FIX)
    return value.rstrip("/")


def _file(value: Path | None, info: ValidationInfo) -> Path | None:
    if value is None:
        return None
    path = surroundings(info).base_dir / value.expanduser()
    if not path.is_file():
        raise wrong(f"there is no file {path}", "create it, or mend the path")
    return path


def _number_or_word(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?", value):
        return float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong(f"is a {type(value).__name__}", "give a number or a word")
    return value


def _currency(value: str) -> str:
    try:
        return Money.of_minor(1, value).currency
    except InvalidInput as error:
        problem, fix = error.problem, error.fix
    raise wrong(problem, fix)


SecretReference = Annotated[Secret | None, BeforeValidator(_secret), PlainSerializer(masked)]
"""Given as `env:NAME` or `file:PATH`, held as a `Secret`, shown as the reference."""

IdOrReference = Annotated[Secret | None, BeforeValidator(_secret_or_text), PlainSerializer(masked)]
"""Given in clear or by reference, for what need not be secret; held and shown like a secret."""

TextOrReference = Annotated[Secret, BeforeValidator(_secret_or_text), PlainSerializer(masked)]
"""The same for the members of a table."""

Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(words)]
"""A list of names; a text is split at commas."""

BaseUrl = Annotated[str, AfterValidator(_base_url)]
"""Scheme, host and optional path, without a slash at the end; no user, query or fragment."""

OwnFile = Annotated[Path | None, AfterValidator(_file)]
"""An existing file, absolute once checked."""

NumberOrWord = Annotated[float | int | str, BeforeValidator(_number_or_word)]
"""What a policy is set to; numbers in texts are read, since a variable holds text only."""

Currency = Annotated[str, AfterValidator(_currency)]
"""An ISO 4217 alphabetic code."""

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
"""A positive time in seconds of at most an hour."""
