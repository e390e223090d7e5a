"""
Everybody outside the workers: the host, its payers' webhooks, and people who settle holds.

Each act runs in a process of its own that may die in it; whoever asked tries again, as a
host does after an error and a provider after no answer. People tell the truth: they look
at the provider's own list of sessions first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from orchestrator.domain.entry import Context
from orchestrator.domain.errors import Conflict, InvalidInput, NotFound, OrchestratorError, Unavailable
from orchestrator.domain.money import Money
from orchestrator.domain.outcome import HOLDING, Outcome
from orchestrator.domain.payment import Channel, HoldReason, Payment
from orchestrator.domain.settling import Kind, Resolution, fitting
from orchestrator.resolve import acknowledge, cancel, resolve
from orchestrator.submit import Door, Submission, collect, submit
from orchestrator.webhook import Ear, hear
from tests.simulation.door import FIELDS, OpenDoor, OpenVault
from tests.simulation.lives import Life
from tests.simulation.vendor import Made

PATIENCE_S = 30.0
TRIES = 12
RIPE_S = 45.0
"""So long a hold must be old before a person looks at it: nobody is stopped for longer and goes on."""
HOOK_DELAYS_S = (0.2, 1.0, 5.0, 40.0, 200.0)
REFUSED = (Conflict, InvalidInput, NotFound)

Act = Callable[[Life], Awaitable[Any]]


class People:
    """The outside of one world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.random = world.random
        self.telling = 0
        """Webhooks under way."""

    async def insist(self, who: str, act: Act) -> Any:
        """Do something until it is answered; a refusal is an answer."""
        for _ in range(TRIES):
            life = self.world.born(who)
            task = asyncio.ensure_future(act(life))
            await asyncio.wait({task}, timeout=PATIENCE_S)
            if task.done():
                error = task.exception()
                if error is None:
                    return task.result()
                if isinstance(error, REFUSED) and not isinstance(error, Unavailable):
                    return None
                if not isinstance(error, OrchestratorError):
                    raise error
            else:
                life.kill()
            await asyncio.sleep(self.random.uniform(0.5, 4))
        return None

    def door(self, life: Life) -> Door:
        world = self.world
        return Door(world.wire(life), OpenVault(), OpenDoor(), world.accounts, self.context(life, "host"))

    def context(self, life: Life, actor: str) -> Callable[[], Context]:
        return lambda: Context(life.clock.now(), actor, life.name, version="1")

    # --- the host -------------------------------------------------------------------------------

    async def buy(self, number: int) -> None:
        """Submit one payment, and do with it what hosts do."""
        random, world = self.random, self.world
        await asyncio.sleep(random.uniform(0, world.scene.busy_s * 0.7))
        channel = random.choice(list(Channel))
        fields = FIELDS[channel] | ({"CallGuid": f"call-{number}"} if channel is Channel.PHONE else {})
        late = random.random() < 0.2
        first = {"cardholderName": fields["cardholderName"]} if late else fields
        order = Submission("emea", channel.value, f"INV-{number}", Money.of_minor(1000 + number, "GBP"), first)
        payment = await self.insist("host", lambda life: submit(self.door(life), order))
        if payment is None:
            return
        if random.random() < world.weather.poison:
            at = random.choice((0.0, 5.0))
            asyncio.get_running_loop().call_later(at, world.poisoned.add, payment.id)
        if random.random() < 0.15:
            await self.insist("host", lambda life: submit(self.door(life), order))
        acts = [self.collects(payment, fields)] if late else []
        if random.random() < world.weather.cancels:
            acts.append(self.cancels(payment))
        await asyncio.gather(*acts)

    async def collects(self, payment: Payment, fields: dict[str, str]) -> None:
        await asyncio.sleep(self.random.uniform(0.5, 60))
        await self.insist("host", lambda life: collect(self.door(life), payment.id, fields))

    async def cancels(self, payment: Payment) -> None:
        hung_up = payment.channel is Channel.PHONE and self.random.random() < 0.5
        await asyncio.sleep(self.random.choice((0.3, 1, 3, 20, 60)) * self.random.random())

        async def act(life: Life) -> Payment:
            context = self.context(life, "host")
            return await cancel(self.world.wire(life), payment.id, context, reason="left", hung_up=hung_up)

        await self.insist("host", act)

    async def handle(self, life: Life, event: str, payment: Payment) -> None:
        """Be the host's handler in a worker's process."""
        if event != "handed_over":
            await life.touch()
            return
        if payment.hand_over_until is not None and life.clock.now() > payment.hand_over_until:
            self.world.watch.late_deliveries[payment.id] += 1
        await life.touch()
        drawn = self.random.random()
        if drawn < 0.05:
            raise RuntimeError("the host's handler is broken")
        await asyncio.sleep(self.random.uniform(0, 1.5) if drawn < 0.95 else 12)
        await life.touch()
        self.world.vendor.dial(payment)
        if drawn > 0.9:
            with suppress(OrchestratorError):
                await acknowledge(self.world.wire(life), payment.id, self.context(life, "host"))

    # --- webhooks -------------------------------------------------------------------------------

    def announced(self, made: Made) -> None:
        """Send what a session came to: soon, late, twice."""
        if not self.world.weather.hooks:
            return
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            self.world.spawn(self.tell(made, self.random.choice(HOOK_DELAYS_S) * self.random.random()))

    async def tell(self, made: Made, delay: float) -> None:
        self.telling += 1
        try:
            await asyncio.sleep(delay)
            await self.deliver(made)
        finally:
            self.telling -= 1

    async def deliver(self, made: Made) -> None:
        body = self.world.vendor.body(made)

        async def act(life: Life) -> Any:
            wire, port = self.world.wire(life), self.world.port(life)
            ear = Ear(wire, port, OpenVault(), self.world.accounts, self.context(life, "webhook"))
            return await hear(ear, "emea", body)

        await self.insist("web", act)

    # --- people ---------------------------------------------------------------------------------

    async def settle_holds(self) -> None:
        """Look at what is held, and settle some of it."""
        world = self.world
        for payment in world.store.everybody():
            if payment.hold is None or world.settled.get(payment.id) == payment.version:
                continue
            age = (world.true_now() - payment.held_at).total_seconds() if payment.held_at else 0
            if age < RIPE_S or self.random.random() >= world.weather.persons:
                continue
            word = self.word(payment)
            if word is None:
                continue
            world.settled[payment.id] = payment.version
            for person in ("ann", "bob")[: world.terms(payment).resolve_persons]:
                await self.insist(person, partial(self.say, payment, Resolution(person, "looked it up", **word)))
        if world.pausing and self.random.random() < 0.5:
            world.pausing -= 1
            await self.insist("ann", self.pause)
            await asyncio.sleep(self.random.uniform(2, 30))
            await self.insist("ann", self.resume)

    async def say(self, payment: Payment, resolution: Resolution, life: Life) -> Payment:
        wire, context = self.world.wire(life), self.context(life, resolution.person)
        stored = await wire.get(payment.id)
        if stored is None or stored.hold is not payment.hold or self.world.watch.may_yet_start(payment.id):
            raise Conflict("payment", "has changed meanwhile")
        return await resolve(wire, payment.id, resolution, context, self.world.terms)

    def word(self, payment: Payment) -> dict[str, Any] | None:
        """Say what the provider's own list says; nothing while it could still change."""
        world, fits = self.world, fitting(payment)
        now, made = world.vendor.now, world.vendor.of(payment.id)
        if world.watch.may_yet_start(payment.id) or payment.open_attempt is not None:
            return None
        if payment.hold is HoldReason.POISON:
            world.poisoned.discard(payment.id)  # who lets it go on has mended what took the workers down
        live = [each for each in made if each.ends_at > now]
        strange = [each for each in live if each.id != payment.session_id]
        if len(strange) == 1 and len(live) == 1 and Kind.SESSION in fits and not payment.ended:
            return {"session": strange[0].id}
        if live:
            return None
        if not made:
            return {"retry": True} if Kind.RETRY in fits else {"outcome": Outcome.EXPIRED}
        paid = next((each for each in made if each.paid), None)
        if paid is None:
            known = made[-1].outcome
            return {"outcome": Outcome.EXPIRED if known in HOLDING or known is Outcome.PAID else known}
        mine = payment.session_id == paid.id or payment.ended
        if not mine and Kind.SESSION not in fits:
            return None
        return {"outcome": paid.outcome} | ({} if mine else {"session": paid.id})

    async def pause(self, life: Life) -> bool:
        return await self.world.wire(life).pause_account(
            "emea", reason="look", context=self.context(life, "ann")()
        )  # fmt: skip

    async def resume(self, life: Life) -> bool:
        return await self.world.wire(life).resume_account("emea", reason="fine", context=self.context(life, "ann")())
