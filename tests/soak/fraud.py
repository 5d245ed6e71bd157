"""Trials of fraud and honest ones against the real deposit core, evidence table and gate: `python tests/soak/fraud.py`.

Virtual time, about 20 trials a second. The look is fooled in all of them, so the figures are those of the evidence
alone. With `--look` the network says of each kind's pictures how often it is fooled, and the last column has both; what
the measured outline says of those that it accepts comes below, for honest bottles too.
Exit 1 where more than 1 of 200 trials of a trick pays, by both where the look was asked, or 1 of 200 honest is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fraud_cabinet import TABLE
from fraud_cases import CASES, Trial, honest, next_size
from myrvm_core.configuration import default_files, settings
from myrvm_core.item_facts import Scale, Story, facts
from myrvm_core.verdict import Outcome, Reason, Verdict
from myrvm_sim.album import PICTURES, load
from myrvm_sim.items import Kind
from myrvm_vision.examination import Frame
from myrvm_vision.settings import DetectorSettings

from myrvm_vision import recognizer

GOAL = 1 / 200
KINDS = {
    "photograph on paper": Kind.PAPER, "phone or tablet": Kind.PHONE, "bottle in a bottle": Kind.NESTED,
    "full bottle": Kind.NOT_EMPTY, "can in a bottle's label": Kind.RELABELLED, "barcode printed on paper": Kind.PAPER,
}  # fmt: skip
BEYOND = {"barcode of the next size up": next_size}  # not a goal: what the evidence can not tell


def fooled(folder: Path) -> dict[Kind, tuple[int, int]]:
    """Of each kind's own pictures in a folder with index.json: how many the network accepts, and how many there are."""
    files = [default for default in default_files() if default.is_file()]
    detector = settings(files)["detector"]
    assert isinstance(detector, DetectorSettings)
    judge = recognizer.load(detector)
    counts: dict[Kind, tuple[int, int]] = {}
    print("| pictures of | | accepted by the look | of these refused by the outline |\n|---|---|---|---|")
    rows = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    for kind in (Kind.MINERAL, Kind.STRING, *dict.fromkeys(KINDS.values())):
        images = [load(folder / row["file"]) for row in rows if row["kind"] == kind.value]
        looks = [(image, judge.look(image, 0).ballot.decision) for image in images]
        accepted = [(image, seen.item) for image, seen in looks if seen.reason is Reason.NONE and seen.item]
        convicted = [_by_outline(judge, Frame(image, item.box, 0), item.class_name) for image, item in accepted]
        said = ", ".join(reason for reason in convicted if reason)
        print(f"| {kind.value} | {len(images)} | {len(accepted)} | {sum(map(bool, convicted))} {said} |", flush=True)
        counts[kind] = (len(accepted), len(images))
    judge.close()
    return {kind: count for kind, count in counts.items() if count[1]}


def _by_outline(judge: recognizer.Recognizer, frame: Frame, class_name: str) -> str:
    verdict = judge.examine([frame], Verdict(Outcome.ACCEPTED, Reason.NONE, class_name, 1.0, frame.box))
    finding = TABLE.judge(facts(verdict, Story(), Scale(), None, 0.0, 0, 0.0))
    return finding.reason.name if finding and finding.reason is not Reason.NONE else ""


def line(name: str, trials: Sequence[Trial], look: tuple[int, int] | None) -> tuple[str, float]:
    """A row of the table, and the share that pays."""
    paid = sum(trial.paid for trial in trials)
    reasons = Counter(reason for trial in trials for reason in trial.reasons if reason != "NONE")
    flags = Counter(flag for trial in trials for flag in set(trial.flags))
    said = ", ".join(f"{what} {count}" for what, count in [*reasons.most_common(3), *flags.most_common(2)])
    share = paid / len(trials)
    both = share * look[0] / look[1] if look else share
    seen = f"{look[0]} of {look[1]}" if look else ""
    return f"| {name} | {len(trials)} | {paid} | {seen} | {both:.2%} | {said} |", both


def main() -> int:
    """Play, print the table, judge."""
    parser = argparse.ArgumentParser(description="Trials of fraud in virtual time.")
    parser.add_argument("--trials", type=int, default=200, help="of each trick")
    parser.add_argument("--honest", type=int, default=400, help="honest customers")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial")
    parser.add_argument("--look", action="store_true", help="ask the network how often each kind's pictures fool it")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="folder with index.json, for --look")
    options = parser.parse_args()
    looks = fooled(options.pictures) if options.look else {}
    seeds = range(options.seed, options.seed + options.trials)
    print("| trick | trials | paid | the look is fooled by | paid by both | refused with, flags |")
    print("|---|---|---|---|---|---|")
    missed: list[str] = []
    for name, case in (CASES | BEYOND).items():
        look = looks.get(KINDS[name]) if name in KINDS else None
        row, share = line(name, [case(seed) for seed in seeds], look)
        print(row, flush=True)
        if share > GOAL and name in CASES:
            missed.append(f"{name}: {share:.2%} pay")
    good = [honest(seed) for seed in range(options.seed, options.seed + options.honest)]
    refused = sum(trial.refused for trial in good)
    reasons = Counter(reason for trial in good for reason in trial.reasons if reason != "NONE")
    print(f"| honest | {len(good)} | refused {refused} | | | {', '.join(f'{r} {n}' for r, n in reasons.items())} |")
    if refused > GOAL * len(good):
        missed.append(f"honest: {refused} of {len(good)} refused")
    print("\n" + ("; ".join(missed) if missed else "at most 1 of 200 pays, at most 1 of 200 honest is refused"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
