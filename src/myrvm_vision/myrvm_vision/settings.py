"""Parameters of the detector."""

from __future__ import annotations

from myrvm_core.settings import Settings, setting
from pydantic import model_validator


class ChamberSettings(Settings):
    """Where the camera sees the chamber, in shares of the picture; beside it kept pictures are black."""

    left: float = setting(0.0, "Left edge.", minimum=0.0, maximum=1.0)
    top: float = setting(0.0, "Upper edge.", minimum=0.0, maximum=1.0)
    right: float = setting(1.0, "Right edge.", minimum=0.0, maximum=1.0)
    bottom: float = setting(1.0, "Lower edge.", minimum=0.0, maximum=1.0)

    @model_validator(mode="after")
    def _has_room(self) -> ChamberSettings:
        if self.left >= self.right or self.top >= self.bottom:
            raise ValueError("left must be less than right, and top less than bottom")
        return self


class OutlineSettings(Settings):
    """The outline of an item that the vote accepts, and how the camera sees the belt that it lies on."""

    segmenter: str = setting(
        "",
        "default for the default of segmenters.json, another one of it, or a file: .pt (MobileSAM, SAM 2, FastSAM), or "
        "NAME.encoder.onnx beside NAME.decoder.onnx; empty: no outlines.",
    )
    camera_height_m: float = setting(
        0.0, "Of the camera above the belt, 0: not measured, and so no lengths.", unit="m", minimum=0.0, maximum=5.0
    )
    view_width_m: float = setting(
        0.0, "Width of the belt that the picture shows, 0: not measured.", unit="m", minimum=0.0, maximum=5.0
    )


class DetectorSettings(Settings):
    """Parameters of the detector node; each is a ROS parameter, described and bounded."""

    models_dir: str = setting("models", "Folder of manifest.json, relative to the installation.")
    model: str = setting(
        "", "Name of a model in the manifest, empty takes its default; name@version is one that came from afar."
    )
    model_path: str = setting(
        "", "A model file used in place of the manifest's; no hash vouches for it.", env="MODEL_PATH"
    )
    model_version: str = setting("", "Version of the model in model_path, as verdicts show it.", env="MODEL_VERSION")
    engine: str = setting(
        "auto",
        "Name of an engine that is installed; auto takes onnx for .onnx, ultralytics for .pt, tensorrt for .engine.",
        pattern="^[a-z0-9_]+$",
    )
    engine_proof: str = setting(
        "golden",
        "golden: a model serves after it gave its figures on the golden pictures, or found a quarter of what they show "
        "where it has none; none: one without figures (an operator's own) serves unproven.",
        pattern="^(golden|none)$",
    )
    trusted_dir: str = setting(
        "models", "Folder that model files which can run code (.pt) are loaded from, empty: none.", env="TRUSTED_MODELS"
    )
    class_map: list[str] = setting(
        [""], "Classes that the model calls otherwise than the rules, as model's name=our name."
    )
    threads: int = setting(0, "Threads of the forward pass, 0: one for each core.", minimum=0, maximum=64)
    votes: int = setting(
        3, "Frames that vote about one item; more than half of them must agree.", minimum=1, maximum=15
    )
    vote_timeout_s: float = setting(
        2.0, "Longest wait for a verdict where the request names none.", unit="s", minimum=0.1, maximum=30.0
    )
    examine_s: float = setting(
        0.5, "Longest closer look at an item that the vote accepts.", unit="s", minimum=0.05, maximum=5.0
    )
    products: list[str] = setting(
        [""], "Products that count before those of `rvm products`: lines of CSV with all of its columns in their order."
    )
    rules_file: str = setting("config/rules.yaml", "Table of acceptance rules, relative to the installation.")
    threshold: float = setting(
        0.7,
        "Score that the word threshold stands for in the rules.",
        minimum=0.0,
        maximum=1.0,
        env="DETECTION_THRESHOLD",
    )
    detection_score: float = setting(0.25, "Detections under this score are dropped.", minimum=0.01, maximum=1.0)
    detection_overlap: float = setting(
        0.7, "Of two boxes of a class that overlap more, the better one stays.", minimum=0.0, maximum=1.0
    )
    item_score: float = setting(0.4, "Detections under this score do not count as items.", minimum=0.0, maximum=1.0)
    same_item_overlap: float = setting(
        0.5, "Boxes of any class that overlap this much are one item.", minimum=0.01, maximum=1.0
    )
    dark_below: float = setting(25.0, "Mean grey level under which a picture is dark.", minimum=0.0, maximum=255.0)
    burnt_out_above: float = setting(
        0.5, "Share of burnt-out pixels from which a picture is overexposed.", minimum=0.0, maximum=1.0
    )
    sharpness_below: float = setting(
        8.0, "Variance of the Laplacian under which a picture is blurred.", minimum=0.0, maximum=100000.0
    )
    chamber: ChamberSettings = ChamberSettings()
    outline: OutlineSettings = OutlineSettings()
    stream_hz: float = setting(
        5.0, "Most detections a second while somebody listens to them.", unit="Hz", minimum=0.1, maximum=60.0
    )
    slow_stream_hz: float = setting(
        1.0, "The same while health/limits says SLOW or worse.", unit="Hz", minimum=0.1, maximum=60.0
    )
