"""
Where settings come from, and what is said when one is wrong.

Owns the reading of `orchestrator.toml` and of `ORCHESTRATOR_*` variables, their
order, and the translation of validation errors into one readable
`ConfigurationError`; pydantic-settings has its home here. Must not know any
setting by name, but for the variable that names the file. Next:
`setting_types`.
"""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from orchestrator.domain.errors import ConfigurationError

PREFIX = "ORCHESTRATOR_"
BETWEEN = "__"
FILE_VARIABLE = "ORCHESTRATOR_CONFIG"
FILE_NAME = "orchestrator.toml"

_NAMED_BY_OTHERS = "config"
"""Below this name in an account's table the keys are the definitions' own `#(Key)` names, whose case matters."""


class Problem(NamedTuple):
    """One wrong setting: its full dotted name, what is wrong without the value, and what would be accepted."""

    key: str
    problem: str
    fix: str = ""


def find_file(path: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """
    Give the settings file: the one asked for, else the variable's, else the directory's, else none.

    Raises:
        ConfigurationError: A file was named and isn't there.
    """
    named = path or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    file = cwd / (named.expanduser() if named else FILE_NAME)
    if file.is_file():
        return file
    if named:
        raise ConfigurationError(FILE_VARIABLE, f"there is no file {file}", "create it, or mend the path")
    return None


def gather(
    file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Merge the sources, the strongest first: overrides, variables, file.

    Args:
        file: The TOML file, if any.
        environ: The environment; variables without the prefix don't matter, empty ones are unset.
        overrides: Nested settings by name; `None` stands for not given.

    Returns:
        All settings, unchecked, and those of the file alone.

    Raises:
        ConfigurationError: The file is no TOML, or two variables contradict each other.
    """
    toml = _read(file)
    strongest = _without_none(overrides)
    referenced = {text.removeprefix("env:") for text in _texts([strongest, toml, *environ.values()])}

    class Gathered(BaseSettings):
        model_config = SettingsConfigDict(extra="allow", hide_input_in_errors=True)

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_sources: Any, **_more: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                InitSettingsSource(settings_cls, strongest),
                _Variables(settings_cls, environ, leave_out=referenced | {FILE_VARIABLE}),
                InitSettingsSource(settings_cls, toml),
            )

    return Gathered().model_extra or {}, toml


class _Variables(PydanticBaseSettingsSource):
    """
    `ORCHESTRATOR_ACCOUNTS__EMEA__BASE_URL=x` is `accounts.emea.base_url = "x"`; JSON lists and tables are read as such.

    The package's own source passes over variables it doesn't know; here a
    misspelt one reaches the models and is refused. A variable that some `env:NAME`
    refers to is a secret, not a setting, whatever its name.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], environ: Mapping[str, str], *, leave_out: frozenset[str] | set[str]
    ) -> None:
        super().__init__(settings_cls)
        self._chosen = {
            name: value
            for name, value in sorted(environ.items())
            if name.startswith(PREFIX) and value and name not in leave_out
        }

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base's
        value = self._chosen.get(PREFIX + field_name.upper())
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for name, text in self._chosen.items():
            *tables, last = _steps(name.removeprefix(PREFIX))
            table: Any = tree
            for step in tables:
                table = table.setdefault(step, {}) if isinstance(table, dict) else None
            if not isinstance(table, dict) or last in table:
                raise ConfigurationError(name, "contradicts another variable", "give the table or its members")
            table[last] = _parsed(text)
        return tree


def explain(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Say of each validation error which setting it is about, what is wrong and what would be right."""
    return [_problem(details, model) for details in error.errors(include_input=False, include_url=False)]


def refuse(problems: Sequence[Problem]) -> ConfigurationError:
    """Give the one error for any number of wrong settings, a line for each."""
    if len(problems) == 1:
        return ConfigurationError(*problems[0])
    lines = (f"  {key}: {problem}" + (f"; {fix}" if fix else "") for key, problem, fix in problems)
    return ConfigurationError("settings", "\n".join((f"{len(problems)} are wrong", *lines)))


def _problem(details: ErrorDetails, model: type[BaseModel]) -> Problem:
    context = details.get("ctx", {})
    steps = [str(step) for step in (*details["loc"], *context.get("below", ())) if step != "[key]"]
    key = ".".join(steps) or "settings"
    match details["type"]:
        case "setting":
            return Problem(key, context["problem"], context["fix"])
        case "missing":
            return Problem(key, "is missing", f"set it, or {_variable(steps)}")
        case "extra_forbidden":
            return Problem(key, "is not a setting", _suggestion(steps, model))
    message = details["msg"].removeprefix("Input ").removeprefix("String ").removeprefix("Value error, ")
    return Problem(key, message[:1].lower() + message[1:])


def _suggestion(steps: Sequence[str], model: type[BaseModel]) -> str:
    known = _names_at(steps[:-1], model)
    close = difflib.get_close_matches(steps[-1], known, n=1)
    return f"did you mean {close[0]}?" if close else f"remove it from the file, or the variable {_variable(steps)}"


def _names_at(steps: Sequence[str], model: type[BaseModel]) -> list[str]:
    kind: Any = model
    for step in steps:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            field = getattr(kind, "model_fields", {}).get(step)
            kind = field.annotation if field else None
    return list(getattr(kind, "model_fields", ()))


def _variable(steps: Sequence[str]) -> str:
    return PREFIX + BETWEEN.join(steps).upper()


def _steps(name: str) -> list[str]:
    steps = name.split(BETWEEN)
    lowered = [step.lower() for step in steps]
    return lowered[:3] + steps[3:] if lowered[2:3] == [_NAMED_BY_OTHERS] else lowered


def _parsed(text: str) -> Any:
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return TomlConfigSettingsSource(BaseSettings, toml_file=file).toml_data
    except tomllib.TOMLDecodeError as error:
        problem = f"is not TOML: {error}"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except OSError as error:
        problem = f"can't be read ({type(error).__name__})"
    raise ConfigurationError(str(file), problem, "mend the file")


def _without_none(overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in overrides.items()
        if value is not None
    }


def _texts(value: Any) -> Iterator[str]:
    """Give every reference to a variable in nested tables and lists."""
    if isinstance(value, str):
        if value.startswith("env:"):
            yield value
        elif '"env:' in value:  # a table given as JSON in one variable
            yield from _texts(_parsed(value)) if _parsed(value) != value else ()
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, Sequence):
        for member in value:
            yield from _texts(member)
