"""Settings of the `deposit` node."""

from __future__ import annotations

import re

from myrvm_core.deposit import Timing
from myrvm_core.settings import Settings, setting
from pydantic import field_validator


class DepositSettings(Settings):
    """How long each state of a deposit may last, what an item is worth, and who may deposit."""

    points_per_item: int = setting(10, "Points credited for an accepted item.", minimum=0, maximum=1_000_000)
    points_by_class: list[str] = setting([""], "Points of a class as class=points; of all others points_per_item.")
    donations: bool = setting(True, "Take items without a session, as donations.")
    return_tries: int = setting(3, "Times an item is offered back before the machine asks for help and slows down.",
                                minimum=1, maximum=20)  # fmt: skip
    settle_s: float = setting(0.15, "An item comes to rest before it is looked at.", unit="s", minimum=0, maximum=5)
    classify_s: float = setting(8.0, "Longest wait for a verdict.", unit="s", minimum=0.5, maximum=60)
    weigh_after_s: float = setting(0.5, "The scale has settled so long after an item entered.", unit="s", minimum=0,
                                   maximum=5)  # fmt: skip
    weigh_s: float = setting(3.0, "Longest wait for the scale to settle and the customer to let go.", unit="s",
                             minimum=0.1, maximum=30)  # fmt: skip
    record_s: float = setting(8.0, "Longest wait for the record to be on disk.", unit="s", minimum=0.5, maximum=60)
    gate_s: float = setting(8.0, "Longest wait for a movement of the gate.", unit="s", minimum=0.5, maximum=60)
    drop_s: float = setting(1.5, "End of the gate's movement to the drop sensor.", unit="s", minimum=0.1, maximum=10)
    reweigh_s: float = setting(1.5, "Longest wait for the scale behind an item that fell without leaving the entry's"
                               " beam.", unit="s", minimum=0.1, maximum=30)  # fmt: skip
    confirm_s: float = setting(0.15, "End of the gate's movement to the last edge of what happened during it.",
                               unit="s", minimum=0, maximum=5)  # fmt: skip
    rewrite_s: float = setting(2.0, "Write a deposit's end again when the disk does not answer.", unit="s",
                               minimum=0.1, maximum=60)  # fmt: skip
    clear_s: float = setting(10.0, "The customer takes a refused item out.", unit="s", minimum=0.5, maximum=300)
    show_s: float = setting(2.5, "A result stays on the screen.", unit="s", minimum=0.1, maximum=60)
    session_s: float = setting(60.0, "A session without an item ends.", unit="s", minimum=5, maximum=3600)
    recover_s: float = setting(2.0, "Wait for what the sensors saw while the node was away.", unit="s",
                               minimum=0.1, maximum=30)  # fmt: skip
    authorize_s: float = setting(5.0, "Longest wait for the server to know a customer.", unit="s",
                                 minimum=0.5, maximum=60)  # fmt: skip

    server_url: str = setting("", "Where phones open vouchers and offers; empty: the bare documents, and no offers.",
                              env="RVM_SERVER_URL", pattern=r"^(https?://[^\s/?#]+[^\s#]*)?$")  # fmt: skip
    vouchers: str = setting("offline", "When a session may be for a voucher: never, always, or while the server cannot"
                            " be asked.", pattern=r"^(never|offline|always)$")  # fmt: skip
    voucher_days: float = setting(90.0, "A voucher can be redeemed for so long.", unit="days", minimum=1, maximum=3650)
    voucher_show_s: float = setting(90.0, "A voucher stays on the screen.", unit="s", minimum=5, maximum=3600)
    offer_s: float = setting(120.0, "A session's offer can be scanned for so long.", unit="s", minimum=10, maximum=3600)
    next_user_s: float = setting(10.0, "A session that rests for so long may be ended by the next user.", unit="s",
                                 minimum=0, maximum=3600)  # fmt: skip
    server_profile: str = setting("myrvm", "What the server speaks; myrvm-server knows neither vouchers nor offers.",
                                  env="RVM_SERVER_PROFILE", pattern=r"^(myrvm|myrvm-server)$")  # fmt: skip
    keys_file: str = setting("config/keys.yaml", "Public keys that are trusted; purpose customer: tokens that hold"
                             " offline. It need not be there.", pattern=r".+")  # fmt: skip

    evidence_file: str = setting("config/evidence.yaml", "Table of what speaks against an item that looks right,"
                                 " relative to the installation.", pattern=r".+")  # fmt: skip
    alike_window_s: float = setting(1800.0, "Items that look alike are counted for so long.", unit="s", minimum=0,
                                    maximum=86_400)  # fmt: skip
    alike_similarity: float = setting(0.99, "Cosine of the fingerprints of two items that are alike.", minimum=-1,
                                      maximum=1)  # fmt: skip

    pictures_mb: float = setting(200.0, "Pictures of deposits that are not settled; the oldest go first.", unit="MB",
                                 minimum=1, maximum=100_000)  # fmt: skip

    keep_refused_pictures: bool = setting(True, "Keep pictures of refused items, for disputes and for training.")

    @field_validator("points_by_class")
    @classmethod
    def _is_table(cls, rows: list[str]) -> list[str]:
        names = [row.partition("=")[0] for row in rows if row]
        if not all(re.fullmatch(r"[^=\s]{1,100}=[0-9]{1,7}", row) for row in rows if row):
            raise ValueError("class=points, such as mineral=12; points 0 .. 9999999")
        if len(set(names)) < len(names):
            raise ValueError("each class once")
        return rows

    @property
    def prices(self) -> dict[str, int]:
        """Points by class, of those that are worth something else than `points_per_item`."""
        return {name: int(points) for name, _, points in (row.partition("=") for row in self.points_by_class if row)}

    @property
    def unasked_sessions(self) -> bool:
        """Whether the server opens sessions without an offer of this machine's, and redeems no vouchers."""
        return self.server_profile == "myrvm-server"

    @property
    def timing(self) -> Timing:
        """The state machine's time-outs."""
        return Timing(**{name: getattr(self, name) for name in Timing.__dataclass_fields__})
