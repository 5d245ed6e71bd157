"""What the demo plays: items of all kinds in a seeded order, customers, a donation, an outage, incidents, a trick."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

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
STRANGER_FROM, DONATION_FROM, BUDI_FROM = 0.3, 0.4, 0.6  # shares of the items; alice has those before
STRANGER = "stranger"  # nobody that the server knows, while it is away: he gets a voucher
SERVER_DOWN, SERVER_UP = 0.25, 0.5


class Incident(str, Enum):
    """What happens to a wanted item on its way into the bin."""

    JAM = "jam"  # the flap is wedged; turning back frees it
    HAND = "hand"  # somebody reaches into the moving gate
    KILL = "kill"  # a node is killed while the gate moves
    POWER_CUT = "power cut"  # every process dies at once while the gate moves


INCIDENTS = {
    Incident.JAM: 0.15,
    Incident.HAND: 0.32,
    Incident.KILL: 0.65,
    Incident.POWER_CUT: 0.8,
}  # shares of the items


@dataclass(frozen=True)
class Step:
    """One item, and what happens just before it is put in."""

    number: int
    kind: Kind
    customer: str | None = None  # a new session: account name, STRANGER, empty for a donation; None: it goes on
    server_down: bool | None = None  # the server goes down, or comes back
    incident: Incident | None = None  # as soon as the gate takes an item, this one or a later one
    disguised: bool = False  # a trick: it looks like an empty bottle of mineral water


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
    incidents = {int(count * share): incident for incident, share in INCIDENTS.items()}
    for index in incidents:
        other = next(
            place
            for place in (index, *range(len(kinds)))
            if kinds[place] is Kind.MINERAL and (place == index or place not in incidents)
        )
        kinds[index], kinds[other] = kinds[other], kinds[index]
    # One trick: the first full bottle looks like an empty one. In a short play another item has to be it.
    places = [place for place in range(1, count) if place not in incidents and kinds[place] is not Kind.MINERAL]
    trick = next((place for place in places if kinds[place] is Kind.NOT_EMPTY), places[0] if places else 1)
    kinds[trick] = Kind.NOT_EMPTY
    begins = {STRANGER_FROM: STRANGER, DONATION_FROM: "", BUDI_FROM: "budi"}
    sessions = {0: "alice", **{int(count * share): customer for share, customer in begins.items()}}
    server = {int(count * SERVER_DOWN): True, int(count * SERVER_UP): False}
    return [
        Step(index + 1, kind, sessions.get(index), server.get(index), incidents.get(index), index == trick)
        for index, kind in enumerate(kinds[:count])
    ]
