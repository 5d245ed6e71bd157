"""Whether an envelope may be executed: each check, and that no mutation of a good one passes."""

from __future__ import annotations

from typing import Any

import pytest
from fake_graph import MACHINE, NOW_S
from hypothesis import given
from hypothesis import strategies as st
from myrvm_cloud.command import ENVELOPE_CHARACTERS, KINDS, LONGEST_LIFE_S, Claims
from myrvm_cloud.command_check import Checked, Moment, Reason, RefusedError, TokenBucket, check, command_of
from myrvm_cloud.command_settings import CommandSettings
from myrvm_core.errors import SettingsError
from myrvm_core.settings import validate
from myrvm_core.signing import KeyRing, SigningKey, thumbprint
from myrvm_sim.operator import Operator, ring

A, B, STRANGER = SigningKey.generate("a"), SigningKey.generate("b"), SigningKey.generate("a")
OPERATOR = Operator([A, B])
TWO_KEYS = CommandSettings().two_keys
KNOWN = Moment(NOW_S, known=True)


def judged(
    envelope: str, counters: dict[str, int] | None = None, moment: Moment = KNOWN, keys: KeyRing = OPERATOR.ring
) -> Checked:
    return check(envelope, MACHINE, keys, TWO_KEYS, counters or {}, moment)


def claims(kind: str = "light", parameters: object = None, **changes: object) -> dict[str, object]:
    given = {"on": True} if parameters is None else parameters
    return {**OPERATOR.claims(MACHINE, kind, now_s=NOW_S), "parameters": given, **changes}


def refused(envelope: str, **options: object) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        judged(envelope, **options)  # pyright: ignore[reportArgumentType]
    return caught.value


def test_a_good_one_passes() -> None:
    checked = judged(OPERATOR.sign(claims(counter=7)))
    assert (checked.claims.kind, checked.signed_by) == ("light", ("a",))
    assert checked.counters == {thumbprint(A.public): 7}
    assert command_of(checked).parameters.model_dump()["on"] is True


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (Reason.MACHINE, {"machine": "rvm-8"}),
        (Reason.KIND, {"kind": "move_gate"}),
        (Reason.EXPIRED, {"issued_at": NOW_S - 100.0, "expires_at": NOW_S - 0.001}),
        (Reason.TIME, {"issued_at": NOW_S + 301.0, "expires_at": NOW_S + 400.0}),
        (Reason.SHAPE, {"expires_at": NOW_S + LONGEST_LIFE_S + 1.0}),
        (Reason.SHAPE, {"issued_at": NOW_S + 5.0, "expires_at": NOW_S + 5.0}),
        (Reason.SHAPE, {"counter": 0}),
        (Reason.SHAPE, {"counter": 1.5}),
        (Reason.SHAPE, {"counter": True}),
        (Reason.SHAPE, {"counter": "7"}),
        (Reason.SHAPE, {"command_id": "../etc"}),
        (Reason.SHAPE, {"command_id": ""}),
        (Reason.SHAPE, {"more": 1}),
        (Reason.SHAPE, {"parameters": [1]}),
        (Reason.SHAPE, {"kind": 7}),
    ],
)
def test_each_claim_is_checked(reason: Reason, changes: dict[str, Any]) -> None:
    assert refused(OPERATOR.sign(claims(**changes))).reason is reason


def test_the_signature_comes_before_what_is_signed() -> None:
    strangers = Operator([STRANGER]).sign({"not even": "a command"})
    assert refused(strangers).reason is Reason.SIGNATURE
    assert refused(strangers).claims is None
    assert refused(A.sign(claims(), "rvm-voucher")).reason is Reason.SIGNATURE
    other_purpose = KeyRing.model_validate({"keys": [{"key_id": "a", "public": A.public, "purposes": ["voucher"]}]})
    assert refused(OPERATOR.sign(claims()), keys=other_purpose).reason is Reason.SIGNATURE
    assert "no key" in str(refused(OPERATOR.sign(claims()), keys=KeyRing()))


def test_size_and_number_of_documents() -> None:
    good = OPERATOR.sign(claims())
    assert refused("x" * (ENVELOPE_CHARACTERS + 1)).reason is Reason.SIZE
    for envelope in ("", " ", good + " ", " " + good, f"{good} {good}", f"{good} {good} {good}", good + "\n"):
        assert refused(envelope).reason is Reason.SIGNATURE


def test_dangerous_ones_need_two_keys_over_the_same_bytes() -> None:
    one = claims("reboot", {})
    assert refused(OPERATOR.sign(one)).reason is Reason.KEYS
    assert judged(OPERATOR.sign(one, keys=2)).signed_by == ("a", "b")
    mixed = f"{A.sign(one, 'rvm-command')} {B.sign({**one, 'counter': 999}, 'rvm-command')}"
    assert refused(mixed).reason is Reason.SIGNATURE
    assert refused(f"{OPERATOR.sign(one)} {STRANGER.sign(one, 'rvm-command')}").reason is Reason.SIGNATURE


def test_opening_a_lock_is_dangerous_and_locking_it_is_not() -> None:
    assert refused(OPERATOR.sign(claims("lock", {"state": "open"}))).reason is Reason.KEYS
    assert judged(OPERATOR.sign(claims("lock", {"state": "locked"})))
    with pytest.raises(RefusedError, match="lock"):
        command_of(judged(OPERATOR.sign(claims("lock", {"state": "ajar"}))))


@pytest.mark.parametrize(("counter", "passes"), [(5, False), (6, False), (7, True)])
def test_counters_only_rise(counter: int, passes: bool) -> None:
    envelope, counters = OPERATOR.sign(claims(counter=counter)), {thumbprint(A.public): 6}
    if passes:
        assert judged(envelope, counters=counters)
    else:
        assert refused(envelope, counters=counters).reason is Reason.REPLAYED


def test_both_counters_count_where_two_sign() -> None:
    envelope = OPERATOR.sign(claims("reboot", {}, counter=7), keys=2)
    assert refused(envelope, counters={thumbprint(B.public): 7}).reason is Reason.REPLAYED
    assert judged(envelope, counters={thumbprint(B.public): 6}).counters.keys() == {
        thumbprint(A.public), thumbprint(B.public),
    }  # fmt: skip


def test_a_counter_is_the_keys_and_not_its_names() -> None:
    renamed = KeyRing(keys=tuple(key.model_copy(update={"key_id": "c"}) for key in ring(A).keys))
    again = Operator([SigningKey("c", A._private)]).sign(claims(counter=7))
    assert refused(again, keys=renamed, counters={thumbprint(A.public): 7}).reason is Reason.REPLAYED


def test_where_the_time_is_not_known_expiry_is_judged_by_what_it_is_at_least() -> None:
    guess = Moment(NOW_S, known=False)
    assert judged(OPERATOR.sign(claims(issued_at=NOW_S + 1e6, expires_at=NOW_S + 1e6 + 60.0)), moment=guess)
    late = claims(issued_at=NOW_S - 100.0, expires_at=NOW_S - 1.0)
    assert refused(OPERATOR.sign(late), moment=guess).reason is Reason.EXPIRED
    assert refused(OPERATOR.sign(claims("reboot", {}), keys=2), moment=guess).reason is Reason.TIME


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("light", {"on": 1}),
        ("light", {"on": True, "duration_s": 1e9}),
        ("light", {"on": True, "output": "belt"}),
        ("lock", {"state": "locked", "output": "to_bin; rm"}),
        ("lock", {"state": "locked", "output": "fan"}),
        ("restart_node", {"node": "Camera"}),
        ("restart_node", {}),
        ("show_message", {"text": "x" * 201}),
        ("show_message", {"text": ""}),
        ("set_log_level", {"node": "camera", "level": "TRACE"}),
        ("set_price_table", {"points_per_item": -1}),
        ("set_price_table", {"points_per_item": 1, "classes": {"a=b": 1}}),
        ("set_price_table", {"points_per_item": 1, "classes": {"can": -1}}),
        ("set_maintenance", {"begins": 2.0, "ends": 1.0, "reason": "x", "who": "y"}),
        ("set_maintenance", {"begins": 1.0, "ends": 2.0, "reason": "", "who": "y"}),
        ("set_maintenance", {"cancel": True, "ends": 2.0}),
        ("set_maintenance", {}),
        ("upload_logs", {"hours": 0}),
        ("in_service", {"now": True}),
    ],
)
def test_parameters_are_checked_last(kind: str, parameters: dict[str, object]) -> None:
    checked = judged(OPERATOR.sign(claims(kind, parameters), keys=2))
    with pytest.raises(RefusedError) as caught:
        command_of(checked)
    assert caught.value.reason is Reason.PARAMETERS


@pytest.mark.parametrize("keys", [[], [{}], [{"key_id": "a"}] * 2, "x"])
def test_a_ring_that_is_none_is_refused(keys: object) -> None:
    with pytest.raises(RefusedError, match="rotate_keys"):
        command_of(judged(OPERATOR.sign(claims("rotate_keys", {"keys": keys}), keys=2)))


def test_none_of_the_kinds_moves_the_gate() -> None:
    assert not [kind for kind in KINDS if "gate" in kind or "motor" in kind or "belt" in kind]


def test_rotation_needs_two_keys_whatever_is_configured() -> None:
    assert CommandSettings(two_keys=["reboot"]).two_keys == ["reboot", "rotate_keys"]
    with pytest.raises(SettingsError, match="explode"):
        validate(CommandSettings, {"two_keys": ["explode"]}, "cloud_bridge.commands")


@given(st.data())
def test_no_mutation_of_a_good_one_passes_as_another(data: st.DataObject) -> None:
    envelope = OPERATOR.sign(claims("reboot", {}), keys=2)
    at = data.draw(st.integers(0, len(envelope) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert", "double"]))
    letter = data.draw(st.characters())
    if change == "flip":
        mutated = envelope[:at] + letter + envelope[at + 1 :]
    elif change == "cut":
        mutated = envelope[:at]
    elif change == "insert":
        mutated = envelope[:at] + letter + envelope[at:]
    else:
        mutated = envelope[:at] + envelope[at // 2 :]
    try:
        checked = judged(mutated)
    except RefusedError:
        return
    assert checked.claims == judged(envelope).claims  # base64url writes the same bytes in more than one way


@given(st.text(max_size=300))
def test_anything_else_is_refused(envelope: str) -> None:
    assert refused(envelope).reason is Reason.SIGNATURE


@given(
    st.dictionaries(st.sampled_from([*Claims.model_fields, "more"]), st.none() | st.integers() | st.text(), max_size=8)
)
def test_signed_nonsense_is_refused(document: dict[str, object]) -> None:
    try:
        envelope = A.sign(document, "rvm-command")
    except ValueError:
        return
    assert refused(envelope).reason is Reason.SHAPE


def test_the_bucket_lets_a_burst_go_and_then_one_at_a_time() -> None:
    bucket = TokenBucket(burst=3, refill_s=2.0)
    assert [bucket.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.take(101.9)
    assert bucket.take(102.1)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(999.0), "a clock that goes back fills nothing"
