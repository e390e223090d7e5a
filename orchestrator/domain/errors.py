"""
Every exception that this package raises on purpose, as one tree.

    OrchestratorError
    ├── InvalidInput          a value the caller can mend: names field, problem and fix
    │   ├── CardDataRefused   card data came in
    │   └── Conflict          the same payment with other content, or one that must not be doubled
    ├── NotFound              no such payment
    ├── Fenced                somebody else decided meanwhile; nothing was written
    ├── ConfigurationError    settings: names the key and the fix
    │   ├── DefinitionError   an `<ApiInteraction>` document: names file, line and element
    │   └── DatabaseMismatch  the database is behind, ahead, or not ours
    ├── Unavailable           something we need does not answer; nothing was lost
    │   └── WentBack          the database is older than it was; a person must say so
    ├── IntegrityViolated     the trail contradicts itself; found, never raised to repair
    │   └── DatabaseDamaged   the database's file can't be read any more
    └── ControlFailed         the seal, its export or a verification can't do its work

Remote trouble is never an exception: it is a `Verdict`. Texts name fields and
classes of values, never the values: an exception ends up in logs.
Owns no behaviour. Next: `payment`.
"""


class OrchestratorError(Exception):
    """The root of the tree."""


class InvalidInput(OrchestratorError):  # noqa: N818 - reads as what happened
    """
    A value that was refused; nothing was written.

    Args:
        field: The name of the argument, field or setting.
        problem: What is wrong with it, without the value itself.
        fix: What would be accepted.
    """

    def __init__(self, field: str, problem: str, fix: str = "") -> None:
        self.field = field
        self.problem = problem
        self.fix = fix
        super().__init__(f"{field}: {problem}" + (f"; {fix}" if fix else ""))


class CardDataRefused(InvalidInput):
    """
    Somebody sends what must never be here: a card number, a security code or a track.

    Attributes:
        noted: Whether the trail tells of it already.
    """

    noted = False


class Conflict(InvalidInput):
    """The submit collides with an existing payment; that one is unchanged."""


class NotFound(OrchestratorError):  # noqa: N818
    """No payment with this id."""


class Fenced(OrchestratorError):  # noqa: N818
    """The payment changed or the claim was lost; nothing was written. Read again and decide again."""


class ConfigurationError(OrchestratorError):
    """
    A wrong or missing setting.

    Args:
        key: The setting's full name, such as `accounts.emea.client_id`.
        problem: What is wrong with it, without the value itself.
        fix: What would be accepted.
    """

    def __init__(self, key: str, problem: str, fix: str = "") -> None:
        self.key = key
        self.problem = problem
        self.fix = fix
        super().__init__(f"{key}: {problem}" + (f"; {fix}" if fix else ""))


class DefinitionError(ConfigurationError):
    """
    An `<ApiInteraction>` document that can't be used.

    Args:
        file: The document's name.
        line: Its line, from 1; 0 when unknown.
        element: The element concerned, such as `Request/Url`.
        problem: What is wrong with it.
        fix: What would be accepted.
    """

    def __init__(self, file: str, line: int, element: str, problem: str, fix: str = "") -> None:
        self.file = file
        self.line = line
        self.element = element
        super().__init__(f"{file}:{line} <{element}>" if element else f"{file}:{line}", problem, fix)


class DatabaseMismatch(ConfigurationError):  # noqa: N818
    """The database's schema is not the one this version writes; nothing was written."""


class Unavailable(OrchestratorError):  # noqa: N818
    """Something we need does not answer: trouble of ours. Nothing was lost; try again."""


class WentBack(Unavailable):
    """
    The database is older than what was acknowledged: an old copy was put back, or a replica had not all of it.

    Nothing was written, and nothing will be until a person has said so; then all goes on by itself.

    Args:
        why: What shows it.
    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"the database went back in time: {why}; run `orchestrator db restored --as PERSON --reason TEXT`"
        )


class IntegrityViolated(OrchestratorError):  # noqa: N818
    """Stored rows contradict each other. Nothing is repaired by this code."""


class DatabaseDamaged(IntegrityViolated):
    """The database's file is damaged, as by a copy over an open one: a person restores a backup; workers wait."""


class ControlFailed(OrchestratorError):  # noqa: N818
    """
    A security control of ours can't do its work: the seal, its export, or a verification.

    Args:
        control: Which, such as `seal`.
        why: What happened; no payer data, no secret.
    """

    def __init__(self, control: str, why: str) -> None:
        self.control = control
        self.why = why
        super().__init__(f"{control}: {why}")
