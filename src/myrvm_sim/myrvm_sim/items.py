"""What people put into the machine: kinds with their weights and sizes, and where an item can be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """What an item really is."""

    MINERAL = "mineral"
    NOT_EMPTY = "not_empty"
    SODA = "soda"
    CAN = "can"
    MILK = "milk"
    YOGURT = "yogurt"
    DISHWASHER = "dishwasher"
    NON_MINERAL = "non_mineral"
    TWO = "two"  # two empty bottles at once
    HAND = "hand"  # a hand that reaches in, and leaves
    NOTHING = "nothing"  # the entry sensor sees something, the camera does not
    PAPER = "paper"  # a photograph of a bottle
    PHONE = "phone"  # one that shows a bottle
    STRING = "string"  # a bottle on a string, which can be pulled back
    NESTED = "nested"  # a bottle in a bottle
    RELABELLED = "relabelled"  # a can in a bottle's label
    SIP = "sip"  # a bottle with a sip left
    CARTON = "carton"
    CUP = "cup"
    TOUCHING = "touching"  # two items that touch


@dataclass(frozen=True)
class Traits:
    """Ranges from which an item of a kind is drawn; `pieces` fall into the bin one after the other."""

    weight_kg: tuple[float, float]
    length_m: tuple[float, float]
    diameter_m: tuple[float, float]
    pieces: int = 1
    stays_s: tuple[float, float] | None = None  # leaves by itself after this time; None: stays


TRAITS: dict[Kind, Traits] = {
    Kind.MINERAL: Traits((0.011, 0.020), (0.19, 0.25), (0.058, 0.070)),
    Kind.NOT_EMPTY: Traits((0.250, 0.620), (0.19, 0.25), (0.058, 0.070)),
    Kind.SODA: Traits((0.020, 0.040), (0.20, 0.28), (0.062, 0.080)),
    Kind.CAN: Traits((0.012, 0.018), (0.115, 0.170), (0.052, 0.067)),
    Kind.MILK: Traits((0.025, 0.045), (0.18, 0.26), (0.070, 0.095)),
    Kind.YOGURT: Traits((0.008, 0.025), (0.09, 0.16), (0.045, 0.075)),
    Kind.DISHWASHER: Traits((0.040, 0.080), (0.20, 0.28), (0.065, 0.090)),
    Kind.NON_MINERAL: Traits((0.150, 0.450), (0.18, 0.30), (0.058, 0.085)),
    Kind.TWO: Traits((0.020, 0.060), (0.19, 0.25), (0.058, 0.070), pieces=2),
    Kind.HAND: Traits((0.050, 0.300), (0.18, 0.20), (0.080, 0.100), pieces=0, stays_s=(2.0, 3.0)),
    Kind.NOTHING: Traits((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), pieces=0, stays_s=(2.0, 3.5)),
    Kind.PAPER: Traits((0.0025, 0.0050), (0.20, 0.30), (0.001, 0.002)),
    Kind.PHONE: Traits((0.140, 0.240), (0.14, 0.17), (0.007, 0.010)),
    Kind.STRING: Traits((0.011, 0.020), (0.19, 0.25), (0.058, 0.070)),
    Kind.NESTED: Traits((0.024, 0.040), (0.19, 0.25), (0.058, 0.070)),
    Kind.RELABELLED: Traits((0.012, 0.018), (0.115, 0.170), (0.052, 0.067)),
    Kind.SIP: Traits((0.030, 0.070), (0.19, 0.25), (0.058, 0.070)),
    Kind.CARTON: Traits((0.020, 0.045), (0.16, 0.24), (0.060, 0.095)),
    Kind.CUP: Traits((0.004, 0.015), (0.08, 0.15), (0.065, 0.095)),
    Kind.TOUCHING: Traits((0.030, 0.080), (0.19, 0.25), (0.058, 0.070), pieces=2),
}

# What a kind looks like where there is no picture of its own: the best that whoever tries it can hope for.
LOOKS_LIKE: dict[Kind, Kind] = {
    Kind.PAPER: Kind.MINERAL,
    Kind.PHONE: Kind.MINERAL,
    Kind.STRING: Kind.MINERAL,
    Kind.NESTED: Kind.MINERAL,
    Kind.RELABELLED: Kind.MINERAL,
    Kind.SIP: Kind.NOT_EMPTY,
    Kind.CARTON: Kind.NON_MINERAL,
    Kind.CUP: Kind.YOGURT,
    Kind.TOUCHING: Kind.TWO,
}


class Place(str, Enum):
    """Where an item is."""

    CHAMBER = "chamber"
    TRAY = "tray"  # pushed out, the customer has not taken it yet
    FALLING = "falling"
    BIN = "bin"
    CUSTOMER = "customer"  # back in the customer's hands
    GONE = "gone"  # the hand, or whatever disturbed the entry sensor


@dataclass(frozen=True)
class Item:
    """One thing that was put in; `picture` names the file that the camera shows, empty: one of its kind."""

    number: int
    kind: Kind
    weight_kg: float
    length_m: float
    diameter_m: float
    place: Place
    inserted_s: float
    picture: str = ""
