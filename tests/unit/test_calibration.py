"""Calibrated scores: order kept, identity where there is none, the machine uses them, and fitting them helps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_network
from calibrate import compare, fit
from figures import reliability
from hypothesis import given, settings
from hypothesis import strategies as st
from myrvm_core.errors import ModelError
from myrvm_core.verdict import Box, Detection
from myrvm_vision.calibration import Calibration
from myrvm_vision.settings import DetectorSettings

from myrvm_vision import model_store, recognizer

SCORES = st.floats(0.0, 1.0)
CURVES = st.builds(Calibration, temperature=st.floats(0.05, 20.0), bias=st.floats(-10.0, 10.0))


@given(CURVES, SCORES, SCORES)
def test_a_higher_score_never_means_less(curve: Calibration, first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert 0.0 <= curve.probability(low) <= curve.probability(high) <= 1.0


@given(SCORES)
def test_without_a_calibration_scores_stay_as_they_are(score: float) -> None:
    assert Calibration().probability(score) == score
    found = (Detection("mineral", 0, score, Box(0, 0, 1, 1)),)
    assert Calibration().applied(found) is found


def test_what_temperature_and_bias_do() -> None:
    assert Calibration(temperature=2.0).probability(0.9) == pytest.approx(0.75)  # odds 9:1 become 3:1
    assert Calibration(bias=float(np.log(3))).probability(0.5) == pytest.approx(0.75)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 4.0), st.floats(-2.0, 2.0))
def test_fitting_finds_the_curve_that_scores_were_made_with(seed: int, temperature: float, bias: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.02, 0.98, 4000)
    truth = Calibration(temperature=temperature, bias=bias)
    right = rng.random(4000) < np.array([truth.probability(score) for score in scores])
    found = fit(scores, right)
    gaps = [abs(found.probability(score) - truth.probability(score)) for score in np.linspace(0.02, 0.98, 49)]
    assert max(gaps) < 0.1


def test_the_calibration_error_falls_on_held_out_scores() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.02, 0.98, 3000)
    right = rng.random(3000) < scores**3  # far too sure
    ways = compare(scores, right)
    assert ways["none"]["calibration_error"] == pytest.approx(reliability(scores, right).error, abs=1e-4)
    assert ways["none"]["calibration_error"] > 0.2
    assert ways["temperature"]["calibration_error"] < 0.05
    assert ways["temperature"]["brier"] < ways["none"]["brier"]


def test_too_little_to_learn_from_changes_nothing() -> None:
    scores = np.linspace(0.1, 0.9, 50)
    assert fit(scores, np.ones(50, bool)).changes_nothing
    assert fit(scores, scores < 0.5).changes_nothing  # scores that mean the opposite are no calibration's business


def test_the_machine_judges_by_calibrated_scores(tmp_path: Path) -> None:
    folder = toy_network.install(tmp_path / "models")
    picture = toy_network.picture(toy_network.GREEN)

    def score(calibration: dict[str, float] | None) -> float:
        manifest = json.loads((folder / "manifest.json").read_text())
        for model in manifest["models"]:
            model.pop("calibration", None)
            if calibration is not None:
                model["calibration"] = calibration
        (folder / "manifest.json").write_text(json.dumps(manifest))
        loaded = recognizer.load(DetectorSettings(models_dir=str(folder)))
        try:
            look = loaded.look(picture, 0)
        finally:
            loaded.close()
        assert look.inference.detections[0].score == look.findings.items[0].score
        item = look.ballot.decision.item
        assert item is not None
        return item.score

    raw = score(None)
    curve = Calibration(temperature=2.0, bias=0.5)
    assert score({"temperature": 1.0, "bias": 0.0}) == raw
    assert score({"temperature": 2.0, "bias": 0.5}) == pytest.approx(curve.probability(raw)) != raw


def test_a_calibration_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = toy_network.install(tmp_path / "models")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"][0]["calibration"] = {"temperature": 0.0}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"models\.0\.calibration\.temperature = '0\.0' is not allowed"):
        model_store.read_manifest(folder)
