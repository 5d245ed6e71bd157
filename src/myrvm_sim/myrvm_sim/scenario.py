"""What the demo plays: items of all kinds in a seeded order, two customers and a donation, an outage, a killed node."""

from __future__ import annotations

import random
from dataclasses import dataclass

from myrvm_sim.items import Kind

# Of forty items; half are what the machine wants.
KINDS: dict[Kind, int] = {
    Kind.MINERAL: 20,
    Kind.NOT_EMPTY: 4,
    Kind.SODA: 3,
    Kind.CAN: 2,
    Kind.MILK: 2,
    Kind.YOGURT: 2,
    Kind.DISHWASHER: 2,
    Kind.NON_MINERAL: 2,
    Kind.HAND: 1,
    Kind.NOTHING: 1,
    Kind.TWO: 1,
}
ALICE_UNTIL, DONATION_UNTIL = 0.4, 0.6  # shares of the items; budi has the rest
SERVER_DOWN, SERVER_UP = 0.25, 0.5
KILL = 0.65


@dataclass(frozen=True)
class Step:
    """One item, and what happens just before it is put in."""

    number: int
    kind: Kind
    customer: str | None = None  # a new session: account name, empty for a donation; None: the session goes on
    server_down: bool | None = None  # the server goes down, or comes back
    kill: bool = False  # from here on: a node is killed while the gate takes an item, once


def plan(count: int, seed: int) -> list[Step]:
    """The first `count` of the forty items, then forty more and so on.

    Raises:
        ValueError: less than 8, in which not everything fits.
    """
    if count < 8:
        raise ValueError(f"items = {count} is not allowed: at least 8")
    kinds: list[Kind] = []
    while len(kinds) < count:
        forty = [kind for kind, number in KINDS.items() for _ in range(number)]
        random.Random(f"{seed} {len(kinds)}").shuffle(forty)
        kinds += forty
    kinds = kinds[:count]
    killed = int(count * KILL)
    mineral = next(index for index in (*range(killed, count), *range(killed)) if kinds[index] is Kind.MINERAL)
    kinds[killed], kinds[mineral] = kinds[mineral], kinds[killed]
    sessions = {0: "alice", int(count * ALICE_UNTIL): "", int(count * DONATION_UNTIL): "budi"}
    server = {int(count * SERVER_DOWN): True, int(count * SERVER_UP): False}
    return [
        Step(index + 1, kind, sessions.get(index), server.get(index), index == killed)
        for index, kind in enumerate(kinds)
    ]
