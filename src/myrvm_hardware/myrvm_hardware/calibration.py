"""A camera's calibration from the YAML file that ROS's `camera_calibration` writes."""

from __future__ import annotations

from pathlib import Path

from myrvm_core.errors import SettingsError
from myrvm_core.settings import read_yaml, validate
from pydantic import BaseModel, ConfigDict, Field, model_validator

from myrvm_core import paths


class Matrix(BaseModel):
    """Numbers row by row."""

    model_config = ConfigDict(frozen=True)

    rows: int = Field(ge=1, le=100)
    cols: int = Field(ge=1, le=100)
    data: tuple[float, ...]

    @model_validator(mode="after")
    def _is_full(self) -> Matrix:
        if len(self.data) != self.rows * self.cols:
            raise ValueError(f"{len(self.data)} numbers, allowed: rows x cols = {self.rows * self.cols}")
        return self


class Calibration(BaseModel):
    """Intrinsics of one camera. Source: ROS `camera_calibration_parsers`, YAML format; focal lengths in px."""

    model_config = ConfigDict(frozen=True)

    image_width: int = Field(ge=1)
    image_height: int = Field(ge=1)
    distortion_model: str = "plumb_bob"
    camera_matrix: Matrix
    distortion_coefficients: Matrix
    rectification_matrix: Matrix
    projection_matrix: Matrix

    @model_validator(mode="after")
    def _has_shapes(self) -> Calibration:
        for name, shape in {
            "camera_matrix": (3, 3),
            "rectification_matrix": (3, 3),
            "projection_matrix": (3, 4),
        }.items():
            matrix = getattr(self, name)
            if (matrix.rows, matrix.cols) != shape:
                raise ValueError(f"{name} is {matrix.rows} x {matrix.cols}, allowed: {shape[0]} x {shape[1]}")
        return self


def load(name: str) -> Calibration:
    """Read a calibration file, relative to the installation.

    Raises:
        SettingsError: the file is not there, not YAML or no calibration.
    """
    file = paths.resolve(name)
    raw = read_yaml(Path(file), f"calibration_file {file}")
    if not isinstance(raw, dict):
        raise SettingsError(f"calibration_file {file} is no calibration: it must be a mapping")
    return validate(Calibration, raw, f"calibration_file {file}")
