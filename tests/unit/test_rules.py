from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError
from myrvm_core.rules import Findings, PictureFault, separate_items
from myrvm_core.verdict import Box, Detection, Reason

from myrvm_core import paths, rules

CLASSES = ("mineral", "not_empty", "soda", "milk", "yogurt", "dishwasher", "non_mineral")
TABLE = rules.load(paths.home() / "config" / "rules.yaml", 0.7)
COORDINATES = st.floats(0, 640, width=32)
BOXES = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h), COORDINATES, COORDINATES, st.floats(1, 300), st.floats(1, 300)
)
NAMES = st.sampled_from((*CLASSES, "alien"))
DETECTIONS = st.builds(lambda name, score, box: Detection(name, 0, score, box), NAMES, st.floats(0, 1), BOXES)
FINDINGS = st.builds(
    Findings,
    st.lists(DETECTIONS, max_size=4).map(lambda found: tuple(sorted(found, key=lambda one: -one.score))),
    st.frozensets(st.sampled_from(PictureFault)),
)


UPRIGHT = Box(10, 10, 50, 90)


def item(name: str, score: float = 0.9, box: Box = UPRIGHT) -> Detection:
    return Detection(name, 0, score, box)


@pytest.mark.parametrize(
    ("findings", "reason"),
    [
        (Findings((item("mineral"),)), Reason.NONE),
        (Findings((item("mineral", 0.7),)), Reason.NONE),
        (Findings((item("mineral", 0.69),)), Reason.NOT_SURE),
        (Findings((item("not_empty"),)), Reason.NOT_EMPTY),
        *((Findings((item(name),)), Reason.REFUSED_MATERIAL) for name in CLASSES[2:]),
        (Findings((item("alien"),)), Reason.NOT_A_BOTTLE),
        (Findings(), Reason.NOTHING_SEEN),
        (Findings((item("mineral"), item("mineral", 0.8))), Reason.MULTIPLE_ITEMS),
        (Findings((item("mineral"),), frozenset({PictureFault.DARK})), Reason.PICTURE_DARK),
        (Findings((item("mineral"),), frozenset({PictureFault.OVEREXPOSED})), Reason.PICTURE_OVEREXPOSED),
        (Findings((item("mineral"),), frozenset({PictureFault.BLURRED})), Reason.PICTURE_BLURRED),
    ],
)
def test_the_shipped_table(findings: Findings, reason: Reason) -> None:
    decision = TABLE.decide(findings)
    assert decision.reason is reason
    assert TABLE.rules[decision.row - 1].reason is reason


@given(FINDINGS)
def test_only_one_sure_mineral_bottle_in_a_good_picture_is_accepted(findings: Findings) -> None:
    sure = len(findings.items) == 1 and findings.items[0].class_name == "mineral" and findings.items[0].score >= 0.7
    assert (TABLE.decide(findings).reason is Reason.NONE) == (sure and not findings.faults)


@given(FINDINGS, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_accepts_more(findings: Findings, one: float, other: float) -> None:
    low, high = sorted((one, other))
    raw = {"rules": [rule.model_dump(exclude_none=True) for rule in TABLE.rules]}
    if rules.parse(raw, high, "x").decide(findings).reason is Reason.NONE:
        assert rules.parse(raw, low, "x").decide(findings).reason is Reason.NONE


@given(FINDINGS, st.integers(0, 9))
def test_the_first_row_that_hits_wins(findings: Findings, dropped: int) -> None:
    row = TABLE.decide(findings).row
    assert not any(rule.hits(findings, 0.7) for rule in TABLE.rules[: row - 1])
    shorter = rules.RuleTable(TABLE.rules[:dropped] + TABLE.rules[dropped + 1 :] or TABLE.rules, 0.7)
    if dropped >= row:
        assert shorter.decide(findings).row == row


@given(st.lists(DETECTIONS, max_size=8), st.floats(0, 1), st.floats(0.1, 0.9))
def test_items_are_strong_and_apart(found: list[Detection], least: float, overlap: float) -> None:
    items = separate_items(tuple(found), least, overlap)
    strong = [one for one in found if one.score >= least]
    assert set(items) <= set(strong)
    assert bool(items) == bool(strong)
    assert [one.score for one in items] == sorted((one.score for one in items), reverse=True)
    for number, first in enumerate(items):
        assert all(rules.overlap(first.box, other.box) < overlap for other in items[number + 1 :])
    assert separate_items(tuple(reversed(found)), least, overlap)[:1] == items[:1] or len(strong) != len(
        {one.score for one in strong}
    )


def test_one_object_seen_as_two_classes_is_one_item() -> None:
    pair = (item("soda", 0.5, Box(12, 10, 50, 92)), item("mineral", 0.8))
    assert [one.class_name for one in separate_items(pair, 0.4, 0.5)] == ["mineral"]
    apart = (item("mineral", 0.8), item("soda", 0.5, Box(60, 10, 100, 90)), item("milk", 0.3, Box(200, 10, 240, 90)))
    assert [one.class_name for one in separate_items(apart, 0.4, 0.5)] == ["mineral", "soda"]


LAST = {"reason": "NOT_A_BOTTLE"}


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (None, "must be a mapping with one name, 'rules'"),
        ({"rules": []}, "must be a mapping with one name, 'rules'"),
        ({"rules": [LAST], "more": 1}, "must be a mapping with one name, 'rules'"),
        ({"rules": ["x", LAST]}, "row 1 = 'x' is not allowed: a mapping with 'reason' and conditions"),
        (
            {"rules": [{"reason": "WRONG", "picture": "dark"}, LAST]},
            r"row 1.reason = 'WRONG' .*one of NONE, NOTHING_SEEN",
        ),
        ({"rules": [{"reason": "ENGINE_FAILED", "picture": "dark"}, LAST]}, r"row 1.reason = 'ENGINE_FAILED'"),
        ({"rules": [{"reason": "NOT_SURE", "picture": "dim"}, LAST]}, r"row 1.picture = 'dim' .*'dark'"),
        ({"rules": [{"reason": "NOT_SURE", "score_below": 1.5}, LAST]}, r"row 1.score_below = 1.5 .*0 .. 1"),
        ({"rules": [{"reason": "NOT_SURE", "score_below": "half"}, LAST]}, r"row 1.score_below = 'half' .*'threshold'"),
        (
            {"rules": [{"reason": "NOT_SURE", "colour": "red"}, LAST]},
            r"row 1.colour is not a known name; allowed: classes",
        ),
        ({"rules": [{"reason": "NOT_SURE", "classes": []}, LAST]}, r"row 1.classes = \[\] is not allowed"),
        ({"rules": [{"reason": "NOT_SURE", "items_at_least": -1}, LAST]}, r"row 1.items_at_least = -1 is not allowed"),
        ({"rules": [{"reason": "NONE"}]}, "row 1 accepts .*must name 'classes' and 'score_at_least'"),
        ({"rules": [{"reason": "NONE", "classes": ["mineral"]}, LAST]}, "row 1 accepts"),
        ({"rules": [LAST, LAST]}, "row 1 has no condition: only the last row may"),
        ({"rules": [{"reason": "NOT_SURE", "picture": "dark"}]}, "row 1 is the last and has a condition"),
    ],
)
def test_a_bad_table_is_refused_with_file_row_value_and_what_is_allowed(raw: Any, line: str) -> None:
    with pytest.raises(SettingsError, match=rf"^table.yaml.*{line}"):
        rules.parse(raw, 0.7, "table.yaml")


def test_a_class_that_the_model_lacks_is_refused() -> None:
    TABLE.check_classes(CLASSES)
    with pytest.raises(
        SettingsError, match=r"row 7.classes = 'soda' is not allowed: the model knows mineral, not_empty$"
    ):
        TABLE.check_classes(("mineral", "not_empty"))


@pytest.mark.parametrize("content", [b"rules: [", b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "rules.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"rules\.yaml cannot be read") as refused:
        rules.load(file, 0.7)
    assert "\n" not in str(refused.value)
