"""`deposit/offer`: what a customer's app scans to begin a session here; made anew at half of its lifetime."""

from __future__ import annotations

from myrvm_core.claims import link
from myrvm_core.session_start import PAGE, Offers
from myrvm_interfaces.msg import SessionOffer
from myrvm_ros.managed_node import ManagedNode
from myrvm_ros.stamps import to_message

from myrvm_deposit.machine_identity import MachineIdentity
from myrvm_deposit.settings import DepositSettings
from myrvm_ros import qos


class OfferDesk:
    """Made when the node is configured; `begin` when it is activated. None without a key, a server or the time."""

    def __init__(self, node: ManagedNode[DepositSettings], identity: MachineIdentity) -> None:
        self._node, self._identity = node, identity
        self._topic = node.publisher(SessionOffer, "deposit/offer", qos.STATE)
        self._offers: Offers | None = None
        if identity.key is not None and node.settings.server_url and not node.settings.unasked_sessions:
            self._offers = Offers(identity.key, identity.name, node.settings.offer_s)

    def begin(self) -> None:
        """Show the first one, and go on."""
        self.renew()
        if self._offers is not None:
            self._node.timer(self._node.settings.offer_s / 2, self.renew)

    def good(self, offer_id: str) -> bool:
        """Whether a session may begin with that offer."""
        now_s = self._identity.known_s()
        return self._offers is not None and now_s is not None and self._offers.good(offer_id, now_s)

    def take(self, offer_id: str) -> None:
        """A session has begun with it: it cannot be used again, and another is shown."""
        if self._offers is not None and offer_id:
            self._offers.take(offer_id)
            self.renew()

    def renew(self) -> None:
        """Show a new one; none while the time is not known: the server would take it for one that has expired."""
        now_s = self._identity.known_s()
        message = SessionOffer()
        message.header.stamp = to_message(self._node.now_ns())
        if self._offers is not None and now_s is not None:
            offer, document = self._offers.renew(now_s)
            message.offer_id = offer.offer_id
            message.link = link(self._node.settings.server_url, PAGE, document)
            message.expires_at = to_message(offer.expires_at * 10**9)
        self._topic.publish(message)
