"""The examiner of barcodes: reads them in the frames that voted, and names the product that they stand for. No ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from myrvm_core.errors import StorageError
from myrvm_core.verdict import Barcode, Verdict

from myrvm_vision.barcodes import Reading, read
from myrvm_vision.examination import Frame
from myrvm_vision.products import ProductTable

SHARE = 0.5  # of the time that is left: the examiners behind this one need some too


class BarcodeExaminer:
    """An `Examiner`: the GTIN that most frames show, the newest of them first, and its product.

    Args:
        table: of products.
    """

    def __init__(self, table: ProductTable) -> None:
        self._table = table

    def examine(self, frames: Sequence[Frame], verdict: Verdict, deadline_s: float) -> Verdict:
        """See `Examiner`."""
        now_s = monotonic()
        until_s = now_s + SHARE * (deadline_s - now_s)
        readings = [reading for frame in frames if (reading := read(frame.image, frame.box, until_s))]
        if not readings:
            return self.skip(verdict, "none was found")
        gtins = [reading.gtin for reading in readings]
        gtin = max(gtins, key=gtins.count)  # of equals the newest frame's
        return replace(
            verdict, barcode=self._named(next(one for one in readings if one.gtin == gtin), gtins.count(gtin))
        )

    def _named(self, reading: Reading, frames: int) -> Barcode:
        barcode = Barcode(reading.gtin, reading.symbology, frames, reading.corners_px)
        try:
            product = self._table.find(reading.gtin)
        except StorageError as error:
            return replace(barcode, error=str(error))
        if product is None:
            return barcode
        return replace(
            barcode,
            known=True,
            product=product.name,
            class_name=product.class_name,
            volume_l=product.volume_l,
            empty_mass_kg=product.empty_mass_kg,
            mass_spread_kg=product.mass_spread_kg,
            points=product.points,
        )

    def skip(self, verdict: Verdict, why: str) -> Verdict:
        """See `Examiner`."""
        return replace(verdict, barcode=Barcode(error=why))

    def close(self) -> None:
        """See `Examiner`."""
