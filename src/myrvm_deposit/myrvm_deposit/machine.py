"""The state machine as the settings want it, with the table of evidence that they name."""

from __future__ import annotations

from myrvm_core.deposit import DepositMachine
from myrvm_core.item_facts import RecentItems

from myrvm_core import evidence_table, paths
from myrvm_deposit.settings import DepositSettings


def make_machine(settings: DepositSettings) -> DepositMachine:
    """A machine in its first state.

    Raises:
        SettingsError: the table cannot be read, or has a row that is not allowed.
    """
    return DepositMachine(
        settings.timing,
        settings.points_per_item,
        settings.donations,
        settings.return_tries,
        settings.prices,
        evidence_table.load(paths.resolve(settings.evidence_file)),
        RecentItems(settings.alike_window_s, settings.alike_similarity),
    )
