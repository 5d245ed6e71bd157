"""The table of what speaks against an item: its order, what is no table, and that what is not known never convicts."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError
from myrvm_core.evidence_table import FACTS, REASONS, TESTS, EvidenceTable, Facts, parse
from myrvm_core.verdict import Reason

from myrvm_core import evidence_table, paths

SHIPPED = evidence_table.load(paths.home() / "config" / "evidence.yaml")
NUMBERS = [name for name, fact in FACTS.items() if not fact.words]
VALUES = st.floats(-10, 10) | st.sampled_from([0.0, 0.5, 1.0, 2.0])
KNOWN = st.dictionaries(st.sampled_from(NUMBERS), VALUES)
UNKNOWN = st.dictionaries(st.sampled_from(list(FACTS)), st.sampled_from([math.nan, ""]))
CONDITIONS = st.builds(lambda name, test, limit: (f"{name}_{test}", limit), st.sampled_from(NUMBERS),
                       st.sampled_from(list(TESTS)), VALUES)  # fmt: skip
REFUSING = st.builds(
    lambda reason, conditions: {"reason": reason.name, **dict(conditions)},
    st.sampled_from(REASONS),
    st.lists(CONDITIONS, min_size=1, max_size=3),
)
TABLES = st.lists(REFUSING, max_size=6)


def table(*rows: dict[str, Any]) -> EvidenceTable:
    return parse({"evidence": list(rows)}, "x")


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, None),
        ({"weight_kg": 0.018, "fill": 0.0, "parts": 1, "hand": "away", "gaps": 0, "crush": 0.1}, None),
        ({"weight_kg": 0.35}, Reason.NOT_EMPTY),
        ({"fill": 0.5}, Reason.NOT_EMPTY),
        ({"weight_deviation": 6.0}, Reason.NOT_EMPTY),
        ({"hand": "inside"}, Reason.LET_GO),
        ({"gaps": 1}, Reason.LET_GO),
        ({"parts": 2}, Reason.MULTIPLE_ITEMS),
        ({"weight_kg": 0.03, "volume_l": 0.33, "crush": 0.1}, Reason.MULTIPLE_ITEMS),
        ({"weight_kg": 0.03, "volume_l": 0.33, "crush": 0.6}, None),
        ({"weight_kg": 0.03, "volume_l": 1.5, "crush": 0.1}, None),
        ({"weight_kg": 0.005}, Reason.NOT_A_BOTTLE),
        ({"product_class": "other"}, Reason.TURN_IT),
        ({"volume_ratio": 0.4, "crush": 0.0}, Reason.TURN_IT),
        ({"taper": 0.9, "crush": 0.0}, Reason.NOT_A_BOTTLE),
        ({"taper": 0.5, "crush": 0.0}, None),
        ({"rose": 1}, Reason.LET_GO),
        ({"falls": 2, "left": 0}, Reason.LET_GO),
        ({"falls": 2, "left": 1}, None),
    ],
)
def test_the_shipped_table(facts: Facts, found: Reason | None) -> None:
    finding = SHIPPED.judge(facts)
    assert (finding.reason if finding else None) == found


@pytest.mark.parametrize(
    ("facts", "flag"),
    [
        ({"falls": 2, "left": 1, "entered_after_fall": 1}, "thrown_in"),
        ({"alike": 5}, "same_item"),
        ({"taken_since_free": 3}, "entry_covered"),
        ({"picture_faults": 3}, "camera_blinded"),
    ],
)
def test_what_the_shipped_table_marks_is_accepted(facts: Facts, flag: str) -> None:
    finding = SHIPPED.judge(facts)
    assert finding is not None
    assert (finding.reason, finding.flag) == (Reason.NONE, flag)
    assert SHIPPED.mark(facts) == finding


def test_the_shipped_table_knows_every_late_fact_as_late() -> None:
    assert SHIPPED.watches_the_gate
    assert not table({"reason": "LET_GO", "hand": "inside"}).watches_the_gate
    assert not EvidenceTable().asks_for(*FACTS)


def test_without_a_row_nothing_speaks_against_an_item() -> None:
    assert EvidenceTable().judge({"weight_kg": 9.0, "hand": "inside"}) is None


@given(KNOWN, TABLES)
def test_the_first_row_that_hits_counts(facts: dict[str, float], rows: list[dict[str, Any]]) -> None:
    whole = table(*rows)
    finding = whole.judge(facts)
    alone = [number for number, row in enumerate(rows, start=1) if table(row).judge(facts)]
    assert (finding.row if finding else None) == (alone[0] if alone else None)
    if finding:
        assert finding.reason.name == rows[finding.row - 1]["reason"]


@given(KNOWN, UNKNOWN, TABLES)
def test_what_is_not_known_never_convicts(
    known: dict[str, float], unknown: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    shipped, made = SHIPPED, table(*rows)
    for judged in (shipped, made):
        assert judged.judge(unknown) is None
        without = {name: value for name, value in known.items() if name not in unknown}
        assert judged.judge({**known, **unknown}) == judged.judge(without)


@given(st.sampled_from([name for name, fact in FACTS.items() if not fact.late]), st.booleans())
def test_only_a_row_that_asks_for_it_hits_a_missing_fact(name: str, as_nan: bool) -> None:
    asking = table({"reason": "NOT_SURE", "missing": [name]})
    value = "mineral" if FACTS[name].words else 1.0
    assert asking.judge({name: math.nan} if as_nan else {}) is not None
    assert asking.judge({name: value}) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"reason": "LET_GO"}, "row 1 has no condition"),
        ({"hand": "inside"}, "is not allowed: a mapping with 'reason' or 'flag'"),
        ({"reason": "LET_GO", "flag": "x", "hand": "inside"}, "is not allowed: a mapping with 'reason' or 'flag'"),
        ({"reason": "TAKEN_OUT", "hand": "inside"}, "row 1.reason = 'TAKEN_OUT' is not allowed: one of MULTIPLE_ITEMS"),
        ({"reason": "NONE", "hand": "inside"}, "row 1.reason = 'NONE' is not allowed"),
        ({"flag": "Same Item", "alike_above": 1}, "row 1.flag = 'Same Item' is not allowed"),
        ({"flag": "", "alike_above": 1}, "row 1.flag = '' is not allowed"),
        ({"reason": "LET_GO", "wait_kg_above": 1}, "row 1.wait_kg_above is not allowed: missing, "),
        ({"reason": "LET_GO", "weight_kg": 1}, "row 1.weight_kg is not allowed"),
        ({"reason": "LET_GO", "hand_above": 1}, "row 1.hand_above is not allowed"),
        ({"reason": "LET_GO", "weight_kg_above": "much"}, "row 1.weight_kg_above = 'much' is not allowed: a number"),
        ({"reason": "LET_GO", "weight_kg_above": True}, "row 1.weight_kg_above = True is not allowed: a number"),
        ({"reason": "LET_GO", "weight_kg_above": math.nan}, "row 1.weight_kg_above = nan is not allowed: a number"),
        ({"reason": "LET_GO", "hand": "outside"}, "row 1.hand = 'outside' is not allowed: of inside, away"),
        ({"reason": "LET_GO", "hand": []}, "row 1.hand = .* is not allowed"),
        ({"reason": "LET_GO", "missing": ["falls"]}, "row 1.missing = .* is not allowed: a list of class"),
        ({"reason": "LET_GO", "missing": "hand"}, "row 1.missing = 'hand' is not allowed"),
        ("hand", "row 1 = 'hand' is not allowed"),
    ],
)
def test_a_row_that_is_not_allowed_is_refused_in_one_line(row: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        table(row)
    assert len(str(refused.value).splitlines()) == 1


def test_a_row_that_only_marks_hides_none_that_refuses() -> None:
    with pytest.raises(SettingsError, match="row 2 refuses and stands after one that marks"):
        table({"flag": "same_item", "alike_above": 1}, {"reason": "LET_GO", "hand": "inside"})


@pytest.mark.parametrize("raw", [None, [], {"rules": []}, {"evidence": {}}])
def test_a_file_that_is_no_table_is_refused(raw: Any) -> None:
    with pytest.raises(SettingsError, match="x must be a mapping with one name, 'evidence'"):
        parse(raw, "x")
