"""The trials of fraud, and the honest ones: each plays one customer in a `FraudCabinet` and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from fraud_cabinet import OTHERS, POINTS, PRODUCTS, QUICK, SLOW, FraudCabinet, Product, of
from myrvm_core.deposit import Ending
from myrvm_core.verdict import Outcome
from myrvm_sim.items import Item, Kind, Place
from myrvm_sim.physics import ImpossibleError, Signal


@dataclass(frozen=True)
class Trial:
    """What came of one: `paid` although it should not have been, or `refused` although honest; the operator's flags."""

    paid: bool
    refused: bool
    flags: tuple[str, ...]
    reasons: tuple[str, ...]


def _end(cabinet: FraudCabinet, paid: bool) -> Trial:
    refused = any(show.ending is not Ending.ACCEPTED for show in cabinet.shows) or not cabinet.shows
    reasons = tuple(show.verdict.reason.name for show in cabinet.shows)
    return Trial(paid, refused, tuple(cabinet.flags), reasons)


def _accepted(cabinet: FraudCabinet) -> int:
    return sum(show.ending is Ending.ACCEPTED for show in cabinet.shows)


def _weight(cabinet: FraudCabinet, product: Product) -> float:
    """Of an empty bottle: some still have drops of water in them."""
    chance = cabinet.chance
    dry_kg = product.mass_kg + chance.uniform(-1.0, 1.0) * product.spread_kg
    return dry_kg + (min(0.004, chance.expovariate(1.0 / 0.001)) if chance.random() < 0.5 else 0.0)


def _bottle(cabinet: FraudCabinet, kind: Kind = Kind.MINERAL, product: Product | None = None) -> tuple[Item, Product]:
    chance = cabinet.chance
    product = product or chance.choice(PRODUCTS)
    crush = chance.choice((0.0, 0.0, 0.0, chance.uniform(0.1, 0.9)))
    return cabinet.insert(kind, of(product, chance, crush), _weight(cabinet, product)), product


def _try(do: Callable[[], object]) -> None:
    with suppress(ImpossibleError):  # too early or too late: the machine was quicker
        do()


def honest(seed: int) -> Trial:
    """An empty bottle, crushed or wet or not; quick and slow customers, some with the next one in their hand."""
    cabinet = FraudCabinet(seed)
    chance = cabinet.chance
    _bottle(cabinet)
    if chance.random() < 0.4:  # the hand is still in the gate
        cabinet.world.set_hand(True, cabinet.now_s)
        cabinet.after(chance.uniform(0.2, 2.2), lambda: cabinet.world.set_hand(False, cabinet.now_s))
    if chance.random() < 0.1:  # the beam sees it fall in two, such as a bottle and its cap
        _on_fall(cabinet, cabinet.world.pass_drop, (0.08, 0.2))
    cabinet.told()
    return _end(cabinet, paid=False)


def _on_fall(cabinet: FraudCabinet, do: Callable[[], object], between_s: tuple[float, float]) -> None:
    """Do something when an item has fallen into the bin."""

    def seen(signal: Signal, active: bool) -> None:
        if signal is Signal.DROP and active:
            cabinet.on_change = lambda *_: None
            cabinet.after(cabinet.chance.uniform(*between_s), do)

    cabinet.on_change = seen


def string(seed: int) -> Trial:
    """A bottle on a string, pulled back after the machine has taken it."""
    cabinet = FraudCabinet(seed, gate=SLOW if seed % 2 else QUICK)
    item, _ = _bottle(cabinet, Kind.STRING)
    _on_fall(cabinet, lambda: _try(lambda: cabinet.world.pull_back(cabinet.now_s)), (0.0, 0.25))
    cabinet.told()
    cabinet.run(lambda: False, 1.0)
    return _end(cabinet, _accepted(cabinet) > 0 and cabinet.world.items[item.number].place is not Place.BIN)


def exchanged(seed: int) -> Trial:
    """A bottle is shown, and something else lies there when the gate moves."""
    cabinet = FraudCabinet(seed)
    chance = cabinet.chance
    shown, product = _bottle(cabinet)

    def exchange() -> None:
        cabinet.world.pull_out(cabinet.now_s)
        cabinet.after(chance.uniform(0.05, 0.3), lambda: _try(put_other))

    def put_other() -> None:
        cabinet.insert(Kind.NON_MINERAL, of(product, chance), chance.uniform(0.012, 0.1))

    cabinet.run(lambda: cabinet.machine.current is not None)
    cabinet.after(chance.uniform(0.16, 1.0), lambda: _try(exchange))
    cabinet.told()
    paid = _accepted(cabinet) > 0 and cabinet.world.items[shown.number].place is not Place.BIN
    # What is put in after a refusal is a deposit of its own: here only the look could tell, and it is fooled.
    late = len(cabinet.shows) > 1 and cabinet.shows[0].ending is Ending.RETURNED
    return _end(cabinet, paid and not late)


def paper(seed: int) -> Trial:
    """A photograph of a bottle, on paper."""
    cabinet = FraudCabinet(seed)
    product = cabinet.chance.choice(PRODUCTS)
    cabinet.insert(Kind.PAPER, replace(of(product, cabinet.chance, barcode=False), taper=1.0))
    cabinet.told()
    return _end(cabinet, _accepted(cabinet) > 0)


def phone(seed: int) -> Trial:
    """A telephone or tablet that shows a bottle."""
    cabinet = FraudCabinet(seed)
    cabinet.insert(Kind.PHONE, replace(of(PRODUCTS[0], cabinet.chance, barcode=False), length_m=0.15, taper=1.0))
    cabinet.told()
    return _end(cabinet, _accepted(cabinet) > 0)


def again(seed: int) -> Trial:
    """The same bottle eight times, brought back behind the machine's back; paid: without the operator being told."""
    cabinet = FraudCabinet(seed)
    product = cabinet.chance.choice(PRODUCTS)
    appearance, weight_kg = of(product, cabinet.chance), _weight(cabinet, product)
    for count in range(1, 9):
        jitter = [value + cabinet.chance.gauss(0.0, 0.004) for value in appearance.fingerprint]
        cabinet.insert(Kind.MINERAL, replace(appearance, fingerprint=tuple(jitter)), weight_kg)
        cabinet.told(count)
    return _end(cabinet, _accepted(cabinet) == 8 and "same_item" not in cabinet.flags)


def nested(seed: int) -> Trial:
    """A bottle in a bottle."""
    cabinet = FraudCabinet(seed)
    chance = cabinet.chance
    outer = chance.choice([product for product in PRODUCTS if product.volume_l >= 0.5])
    inner = chance.choice([product for product in PRODUCTS if product.volume_l <= outer.volume_l])
    cabinet.insert(Kind.NESTED, of(outer, chance), _weight(cabinet, outer) + _weight(cabinet, inner))
    cabinet.told()
    return _end(cabinet, _accepted(cabinet) > 0)


def holding(seed: int) -> Trial:
    """A hand holds on to the bottle; every second one wears a glove that the sensor does not see."""
    cabinet = FraudCabinet(seed)
    chance = cabinet.chance
    cabinet.hand_seen = seed % 2 == 0
    _bottle(cabinet)
    cabinet.world.set_hand(True, cabinet.now_s)
    cabinet.wobble_kg = chance.uniform(0.03, 0.15)
    cabinet.after(12.0, lambda: cabinet.world.set_hand(False, cabinet.now_s))
    cabinet.told()
    return _end(cabinet, _accepted(cabinet) > 0)


def full(seed: int) -> Trial:
    """A bottle that is not empty: from a fifth to the brim."""
    cabinet = FraudCabinet(seed)
    chance = cabinet.chance
    product, fill = chance.choice(PRODUCTS), chance.uniform(0.2, 1.0)
    weight_kg = _weight(cabinet, product) + fill * product.volume_l
    cabinet.insert(Kind.NOT_EMPTY, replace(of(product, chance), fill=fill), weight_kg)
    cabinet.told()
    return _end(cabinet, _accepted(cabinet) > 0)


def relabelled(seed: int) -> Trial:
    """A can in a bottle's label."""
    cabinet = FraudCabinet(seed)
    chance = cabinet.chance
    length_m, width_m, volume_l = chance.choice(((0.115, 0.066, 0.33), (0.145, 0.058, 0.33), (0.168, 0.066, 0.5)))
    label = of(chance.choice(PRODUCTS), chance)
    can = replace(label, length_m=length_m, width_m=width_m, volume_l=volume_l, taper=chance.uniform(0.77, 0.89))
    cabinet.insert(Kind.RELABELLED, can)
    cabinet.told()
    return _end(cabinet, _accepted(cabinet) > 0)


def other_barcode(seed: int) -> Trial:
    """A bottle with the barcode of another class' product, or of one of twice its size; paid: more than it is worth."""
    return _claimed(
        seed, lambda product: [*OTHERS, *(one for one in PRODUCTS if one.volume_l >= 2 * product.volume_l)], POINTS
    )


def next_size(seed: int) -> Trial:
    """A bottle with the barcode of the next size up, half as large again."""
    return _claimed(seed, lambda product: [one for one in PRODUCTS if 1.4 < one.volume_l / product.volume_l < 2], 0)


def _claimed(seed: int, products: Callable[[Product], list[Product]], by_look: int) -> Trial:
    cabinet = FraudCabinet(seed)
    chance = cabinet.chance
    product = chance.choice([product for product in PRODUCTS if product.volume_l <= 0.5])
    claimed = chance.choice(products(product))
    cabinet.insert(Kind.MINERAL, replace(of(product, chance), product=claimed), _weight(cabinet, product))
    cabinet.told()
    due = max(product.points, by_look)
    return _end(cabinet, any(show.points > due for show in cabinet.shows))


def printed_barcode(seed: int) -> Trial:
    """A slip of paper with a barcode, and a bottle on it."""
    cabinet = FraudCabinet(seed)
    chance = cabinet.chance
    product = chance.choice(PRODUCTS)
    cabinet.insert(Kind.PAPER, replace(of(product, chance), product=product, taper=1.0))
    cabinet.told()
    return _end(cabinet, _accepted(cabinet) > 0)


def thrown_in(seed: int) -> Trial:
    """Something is thrown in while the gate closes behind a bottle; paid: twice."""
    cabinet = FraudCabinet(seed)
    _, product = _bottle(cabinet)
    other = of(product, cabinet.chance)
    _on_fall(cabinet, lambda: _try(lambda: cabinet.throw_in(Kind.NON_MINERAL, other)), (0.0, 0.1))
    cabinet.told()
    cabinet.run(lambda: False, 2.0)
    return _end(cabinet, _accepted(cabinet) > 1)


def taped(seed: int) -> Trial:
    """A sensor is covered, and the bottle is on a string: the entry's, or that above the bin."""
    cabinet = FraudCabinet(seed, gate=SLOW if seed % 4 < 2 else QUICK)
    if seed % 2:
        cabinet.tape(Signal.DROP, cabinet.chance.random() < 0.5)
    item, _ = _bottle(cabinet, Kind.STRING)
    if not seed % 2:
        cabinet.tape(Signal.ENTRY, True)
    _on_fall(cabinet, lambda: _try(lambda: cabinet.world.pull_back(cabinet.now_s)), (0.0, 0.25))
    cabinet.told()
    return _end(cabinet, _accepted(cabinet) > 0 and cabinet.world.items[item.number].place is not Place.BIN)


def blinded(seed: int) -> Trial:
    """The camera is covered, or the light; paid: a thing that was not seen, or unseen by the operator after three."""
    cabinet = FraudCabinet(seed, look=Outcome.REJECTED)
    for count in (1, 2, 3):
        cabinet.insert(Kind.NON_MINERAL, of(PRODUCTS[0], cabinet.chance), 0.02)
        cabinet.told(count)
    return _end(cabinet, _accepted(cabinet) > 0 or "camera_blinded" not in cabinet.flags)


CASES: dict[str, Callable[[int], Trial]] = {
    "bottle on a string": string,
    "exchanged after the verdict": exchanged,
    "photograph on paper": paper,
    "phone or tablet": phone,
    "the same bottle again": again,
    "bottle in a bottle": nested,
    "hand holding on": holding,
    "full bottle": full,
    "can in a bottle's label": relabelled,
    "barcode of another product": other_barcode,
    "barcode printed on paper": printed_barcode,
    "thrown in while the gate closes": thrown_in,
    "sensor taped over": taped,
    "camera covered, light blinded": blinded,
}
