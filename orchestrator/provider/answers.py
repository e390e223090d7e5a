"""
What a 2xx answer says: a token, a session, or an observation.

Owns what must be in an answer before it counts as one: the ids, not the status
code, since the provider answers 200 with a text instead of a session. Pure. Must
not know how the answer came. Next: `request`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestrator.domain.payment import Channel
from orchestrator.domain.verdict import Session, Verdict, VerdictKind
from orchestrator.interactions import Definition, Unreadable, extract, locate, read_json
from orchestrator.provider.config import RoleNames
from orchestrator.provider.gateway import GatewayProfile, UnreadableBody, observe_document, read
from orchestrator.provider.message import message_in
from orchestrator.provider.tokens import Grant, life_of
from orchestrator.provider.transport import Answer

MAX_ID = 128
INCOMPLETE = "answer_incomplete"
UNREADABLE = "answer_unreadable"


def grant_of(answer: Answer, definition: Definition, roles: RoleNames) -> Grant | Verdict:
    """Read a token out of an answer; a token that no header can carry is none."""
    found = _extracted(answer, definition)
    if isinstance(found, Verdict):
        return found
    token = found.get(roles.access_token)
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        return _unknown(INCOMPLETE, message_in(answer.body))
    expires_in = locate(read_json(answer.body), "expires_in") if definition.response_type == "JSON" else None
    return Grant(token, life_of(expires_in))


def session_of(
    answer: Answer, definition: Definition, roles: RoleNames, channel: Channel, *, redact: Callable[[str], str]
) -> Verdict:
    """
    Read a started session out of an answer.

    Returns:
        `answered` with the session, if its id is there, and for the phone also number and link
        id. Else `unknown`: a session may exist that nobody can name. The provider's message
        is kept uncleaned.
    """
    found = _extracted(answer, definition)
    if isinstance(found, Verdict):
        return replace(found, message=message_in(answer.body))
    message = found.get(roles.message) or message_in(answer.body)
    named = (found.get(role) for role in (roles.session_id, roles.number, roles.link_id))
    session_id, number, link_id = (_id(value, redact) for value in named)
    if session_id is None or (channel is Channel.PHONE and (number is None or link_id is None)):
        return _unknown(INCOMPLETE, message)
    session = Session(session_id, number, link_id) if channel is Channel.PHONE else Session(session_id)
    return Verdict(VerdictKind.ANSWERED, reason=f"http_{answer.status}", message=message, session=session)


def observation_of(
    answer: Answer,
    definition: Definition,
    roles: RoleNames,
    profile: GatewayProfile,
    *,
    currency: str,
    redact: Callable[[str], str],
) -> Verdict:
    """
    Read an observation out of a status answer.

    The state is what the definition found under the session state's role, else what the
    profile finds in the raw body; the result is the profile's own reading of the raw body, since
    a definition need not map it. An XML body has no result but what the definition maps, by
    the profile's names.
    """
    found = _extracted(answer, definition)
    if isinstance(found, Verdict):
        return found
    try:
        document = read(answer.body) if definition.response_type == "JSON" else {profile.result_field: found, **found}
    except UnreadableBody:
        return _unknown(UNREADABLE, None)
    state = found.get(roles.session_state)
    observation = observe_document(profile, document, currency, state=state, redact=redact)
    if observation.session_state is None:
        return _unknown(INCOMPLETE, message_in(answer.body))
    return Verdict(VerdictKind.ANSWERED, reason=f"http_{answer.status}", observation=observation)


def _extracted(answer: Answer, definition: Definition) -> Mapping[str, str | None] | Verdict:
    try:
        return extract(definition, answer.body, status=answer.status)
    except Unreadable:
        return _unknown(UNREADABLE, None)


def _id(value: str | None, redact: Callable[[str], str]) -> str | None:
    """An id that can be stored and sent on; anything else is no id, and card data least of all."""
    text = (value or "").strip()
    return text if 0 < len(text) <= MAX_ID and text.isprintable() and redact(text) == text else None


def _unknown(reason: str, message: str | None) -> Verdict:
    return Verdict(VerdictKind.UNKNOWN, reason=reason, message=message)
