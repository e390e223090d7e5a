"""The routes, without a socket: who gets which answer."""

import asyncio
from dataclasses import dataclass, field

import httpx
import pytest

from orchestrator.domain.errors import ConfigurationError, Fenced, InvalidInput, Unavailable
from orchestrator.health import Colour, Finding, Health
from orchestrator.service import create_app
from orchestrator.service.denied import MOST, OTHERS, QUIET_S, Denials
from orchestrator.webhook import Heard, Result

TOKEN = "t0ken-of-the-providers-webhooks"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Served:
    error: Exception | None = None
    colours: tuple[Colour, ...] = ()
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    async def webhook(self, account: str, body: bytes) -> Heard:
        if self.error is not None:
            raise self.error
        self.heard.append((account, body))
        return Heard(Result.UNMATCHED)

    async def deny_access(self, door: str, sender: str, count: int) -> None:
        self.refused.append((door, f"{sender} {count}"))
        if self.error is not None:
            raise self.error
        if self.error is not None:
            raise self.error

    async def health(self) -> Health:
        return Health(tuple(Finding(colour, "word") for colour in self.colours))


def client(served: Served, **more: object) -> httpx.AsyncClient:
    app = create_app(served, token=TOKEN, **more)  # type: ignore[arg-type]  # the test's own
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 200),
        (InvalidInput("body", "is not JSON", "send JSON"), 400),
        (ConfigurationError("account", "is not configured"), 404),
        (Unavailable("postgresql://10.0.0.1 does not answer"), 503),
        (Fenced("changed 20 times"), 503),
        (KeyError("4111111111111111"), 500),
    ],
)
async def test_every_error_has_its_answer_and_none_shows_what_was_sent(error: Exception | None, status: int) -> None:
    async with client(Served(error)) as http:
        answer = await http.post("/webhooks/emea", content=b'{"secret": 1}', headers=BEARER)

    assert answer.status_code == status
    assert ("retry-after" in answer.headers) is (status >= 500)
    assert not any(word in answer.text for word in ("secret", "4111", "postgresql", "20 times"))


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer é"])
async def test_without_the_token_nothing_is_heard(given: str | None) -> None:
    for error in (None, Unavailable("down"), ConfigurationError("account", "is not configured")):
        served = Served(error)
        async with client(served) as http:
            headers = {} if given is None else {"Authorization": given.encode()}
            answer = await http.post("/webhooks/emea", content=b"{}", headers=headers)

        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (served.heard, served.refused) == ([], [("webhooks", "127.0.0.1 1")])


async def test_the_scheme_is_case_insensitive_and_an_account_may_hold_anything_but_a_slash() -> None:
    served = Served()
    async with client(served) as http:
        await http.post("/webhooks/em%20ea", content=b"{}", headers={"Authorization": f"bearer  {TOKEN}"})

    assert served.heard == [("em ea", b"{}")]


@pytest.mark.parametrize("size", [65_536, 65_537])
async def test_a_body_has_a_size_that_it_may_have(size: int) -> None:
    async with client(Served()) as http:
        answer = await http.post("/webhooks/emea", content=b"x" * size, headers=BEARER)

    assert answer.status_code == (200 if size == 65_536 else 413)


@pytest.mark.parametrize(
    ("colours", "status", "word"),
    [((), 200, "green"), ((Colour.AMBER,), 200, "amber"), ((Colour.AMBER, Colour.RED), 503, "red")],
)
async def test_only_red_health_is_an_error(colours: tuple[Colour, ...], status: int, word: str) -> None:
    async with client(Served(colours=colours)) as http:
        answer = await http.get("/health")

    assert (answer.status_code, answer.json()["health"]) == (status, word)
    assert len(answer.json()["findings"]) == len(colours)


async def test_strangers_are_told_of_once_a_minute_for_each_address_and_counted_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served, now = Served(), 1000.0
    denials = Denials(served.deny_access)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    for _ in range(5):
        await denials.deny("metrics", "10.0.0.7")
    await denials.deny("webhooks", "10.0.0.8")
    assert served.refused == [("metrics", "10.0.0.7 1"), ("webhooks", "10.0.0.8 1")]
    now += QUIET_S
    await denials.deny("webhooks", "10.0.0.9")
    assert served.refused[2:] == [("metrics", "10.0.0.7 4"), ("webhooks", "10.0.0.9 1")]
    await denials.deny("webhooks", "10.0.0.9")
    await denials.close()
    assert served.refused[4:] == [("webhooks", "10.0.0.9 1")]


async def test_a_flood_from_everywhere_is_no_flood_of_entries() -> None:
    served = Served()
    denials = Denials(served.deny_access)
    for number in range(MOST + 500):
        await denials.deny("metrics", f"10.{number >> 8}.{number & 255}.1")
    await denials.close()
    assert len(served.refused) == MOST + 2
    assert served.refused[-2:] == [("metrics", f"{OTHERS} 1"), ("metrics", f"{OTHERS} 499")]


async def test_metrics_need_the_token_and_pages_about_the_routes_there_are_none() -> None:
    async with client(Served(), metrics=lambda: (b"x 1\n", "text/plain")) as http:
        assert (await http.get("/metrics")).status_code == 401  # and noted, as for a webhook
        assert (await http.get("/metrics", headers=BEARER)).text == "x 1\n"
        for path in ("/docs", "/redoc", "/openapi.json", "/"):
            assert (await http.get(path, headers=BEARER)).status_code == 404
    async with client(Served()) as http:
        assert (await http.get("/metrics", headers=BEARER)).status_code == 404
