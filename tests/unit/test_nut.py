"""The protocol of `upsd` without a server, and a real server with a dummy supply where Debian's nut-server is."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import DeviceError, SettingsError
from myrvm_hardware.drivers import Role
from myrvm_hardware.nut import Listing, NutServer, readings
from myrvm_hardware.settings import PowerSettings
from nut_server import Supply

ANSWER = b'BEGIN LIST VAR ups\nVAR ups battery.charge "90"\nVAR ups ups.model "A \\"B\\""\nEND LIST VAR ups\n'


def test_a_listing() -> None:
    listing = Listing("ups")
    assert listing.request == b"LIST VAR ups\n"
    assert listing.receive(ANSWER)
    assert listing.variables == {"battery.charge": "90", "ups.model": 'A "B"'}


@given(st.lists(st.integers(1, len(ANSWER) - 1), max_size=6))
def test_a_listing_in_any_pieces(cuts: list[int]) -> None:
    listing, ends = Listing("ups"), sorted({*cuts, len(ANSWER)})
    done = [listing.receive(ANSWER[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
    assert done == [False] * (len(done) - 1) + [True]
    assert listing.variables["battery.charge"] == "90"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"ERR UNKNOWN-UPS\n", "upsd refuses ups: UNKNOWN-UPS"),
        (b"ERR DATA-STALE\n", "upsd refuses ups: DATA-STALE"),
        (b"220 smtp.example.org ESMTP\n", "upsd answers '220 smtp.example.org ESMTP', not a listing of ups"),
        (b"\xff\xfe\n", "not a listing of ups"),
        (b"x" * 70_000, "upsd answers more than 65536 bytes"),
    ],
)
def test_answers_that_are_none(answer: bytes, sentence: str) -> None:
    with pytest.raises(DeviceError, match=sentence):
        Listing("ups").receive(answer)


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waited_on(data: bytes) -> None:
    listing = Listing("ups")
    with contextlib.suppress(DeviceError):
        assert not listing.receive(data)
    assert listing.variables == {}


@pytest.mark.parametrize(
    ("status", "charge", "expected"),
    [
        ("OL CHRG", "80", (0.0, 0.8, 0.0)),
        ("OB DISCHRG", "60", (1.0, 0.6, 0.0)),
        ("OB LB", "60", (1.0, 0.6, 1.0)),
        ("OL", "9", (0.0, 0.09, 1.0)),
    ],
)
def test_what_the_variables_say(status: str, charge: str, expected: tuple[float, float, float]) -> None:
    said = readings({"ups.status": status, "battery.charge": charge}, 0.15)
    assert (said[Role.ON_BATTERY], said[Role.BATTERY], said[Role.BATTERY_LOW]) == pytest.approx(expected)


def test_a_supply_that_tells_no_charge_still_tells_that_mains_is_gone() -> None:
    assert readings({"ups.status": "OB LB"}, 0.15) == {Role.ON_BATTERY: 1.0, Role.BATTERY_LOW: 1.0}


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "upsd gives no ups.status"),
        ({"ups.status": "OL", "battery.charge": "full"}, "battery.charge = 'full': no number"),
        ({"ups.status": "OL", "battery.charge": "nan"}, "battery.charge = nan: 0 .. 100 is allowed"),
        ({"ups.status": "OL", "battery.charge": "120"}, "battery.charge = 120: 0 .. 100 is allowed"),
    ],
)
def test_variables_that_say_nothing(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(DeviceError, match=sentence):
        readings(variables, 0.15)


@pytest.mark.parametrize("device", ["", "@host", "ups@host:99999", "ups@host:port", "a b"])
def test_a_device_that_is_none(device: str) -> None:
    with pytest.raises(SettingsError, match="is not allowed: ups@host:port"):
        NutServer(device, PowerSettings(), Role.ON_BATTERY)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match=r"upsd at 127.0.0.1:1 is not reached"):
        NutServer("ups@127.0.0.1:1", PowerSettings(), Role.ON_BATTERY).open()
    with pytest.raises(DeviceError, match="upsd is not connected"):
        NutServer("ups", PowerSettings(), Role.ON_BATTERY).read()


def test_a_real_server_with_a_dummy_supply(nut_supply: Supply) -> None:
    supply = nut_supply
    driver = NutServer(supply.device, PowerSettings(low_charge=0.2), Role.ON_BATTERY)
    other = NutServer(supply.device.replace("ups@", "none@"), PowerSettings(), Role.ON_BATTERY)

    def wait(expected: tuple[float, float, float]) -> None:
        end, said, problem = time.monotonic() + 30.0, dict[Role, float](), ""
        while tuple(said.get(role) for role in (Role.ON_BATTERY, Role.BATTERY, Role.BATTERY_LOW)) != expected:
            assert time.monotonic() < end, f"{said} {problem}; {supply.log()}"
            try:
                driver.open()
                said = driver.read()
            except DeviceError as error:
                problem = str(error)
            time.sleep(0.1)

    try:
        wait((0.0, 1.0, 0.0))
        supply.show("OB LB", 10)
        wait((1.0, 0.1, 1.0))
        other.open()
        with pytest.raises(DeviceError, match="upsd refuses none: UNKNOWN-UPS"):
            other.read()
    finally:
        driver.close()
        other.close()
