"""Fit what turns a model's score into the probability that it is right, and enter it in the manifest.

python models/training/calibrate.py --pictures DATA/val [--photographs DIR] [--model NAME]
The pictures must not have been trained on, nor be those that the figures are measured on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import figures
import numpy as np
import photographs
import picture_sets
import shipped_models
from evaluate import judge, machine_settings
from myrvm_vision.calibration import LOWEST, Calibration
from numpy.typing import NDArray
from picture_sets import Picture
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

FITTED_FROM = 0.05  # weak boxes show where certainty begins; under it there is only noise
LEAST_WRONG = 10  # fewer errors say nothing about how errors are spread
FOLDS = 5

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def fit(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """Temperature and bias that make the scores most likely; identity where there is too little to learn from.

    Args:
        scores: of detections, 0 .. 1.
        right: whether each is right.
    """
    if min(int(right.sum()), int((~right).sum())) < LEAST_WRONG:
        return Calibration()
    kept = np.clip(scores, LOWEST, 1.0 - LOWEST)
    model = LogisticRegression(C=1e6).fit(np.log(kept / (1.0 - kept))[:, None], right)
    slope = float(model.coef_[0, 0])
    if slope < 0.01:  # a higher score must not mean less
        return Calibration()
    return Calibration(temperature=round(1.0 / slope, 4), bias=round(float(model.intercept_[0]), 4))


def _temperature(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> Curve:
    found = fit(scores, right)
    return lambda given: np.array([found.probability(float(score)) for score in given])


def _isotonic(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> Curve:
    return IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, right).predict


def compare(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Expected calibration error and Brier score of each way, on the fold that it was not fitted on."""
    ways: dict[str, Callable[[NDArray[np.float64], NDArray[np.bool_]], Curve]] = {
        "none": lambda *_: lambda given: given,
        "temperature": _temperature,
        "isotonic": _isotonic,
    }
    found: dict[str, dict[str, float]] = {}
    for name, way in ways.items():
        changed = np.empty_like(scores)
        for fitted, held in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(scores, right):
            changed[held] = way(scores[fitted], right[fitted])(scores[held])
        found[name] = {
            "calibration_error": round(figures.reliability(changed, right).error, 4),
            "brier": round(float(np.mean((changed - right) ** 2)), 4),
        }
    return found


def calibrate(name: str, pictures: Sequence[Picture], folder: Path = shipped_models.MODELS) -> dict[str, Any]:
    """The manifest's `calibration` of a model, fitted on pictures.

    Raises:
        KeyError: the manifest has no such model.
        ModelError: it cannot be loaded.
    """
    file = folder / shipped_models.entry(name, folder)["file"]
    # By its file a model is not calibrated; every separate box counts, also those that are no item to the machine.
    settings = machine_settings(model_path=str(file), detection_score=FITTED_FROM, item_score=FITTED_FROM)
    scores, right = figures.scored(judge(pictures, settings))
    found = fit(scores, right)
    measured = {"detections": len(scores), "right": int(right.sum())}
    if not found.changes_nothing:
        measured |= {"cross_validated": compare(scores, right)}
    return {"temperature": found.temperature, "bias": found.bias, **measured}


def main() -> None:
    """Fit, print, enter in the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="name in models/manifest.json [its default]")
    parser.add_argument("--pictures", type=Path, action="append", required=True, help="may be repeated")
    parser.add_argument("--photographs", type=Path, help="folder of the photographs; the held-out third is used")
    args = parser.parse_args()
    pictures = [picture for folder in args.pictures for picture in picture_sets.read(folder)]
    if args.photographs is not None:
        pictures += photographs.split(args.photographs)[1]
    name = shipped_models.entry(args.model)["name"]
    found = calibrate(name, pictures)
    shipped_models.change(name, {"calibration": found})
    print(f"{name}: {found}")


if __name__ == "__main__":
    main()
