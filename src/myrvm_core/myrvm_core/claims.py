"""What signed documents say, typed: each kind is a class, read only after its signature has held."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from myrvm_core.errors import SignatureError, StorageError
from myrvm_core.signing import KeyRing, PublicKey, SigningKey, verify

EpochSeconds = Annotated[int, Field(ge=0, lt=2**40)]  # whole s since the epoch
MachineId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]  # HARDWARE_ID


class Claims(BaseModel):
    """Base of all kinds: the header's `typ`, and what a key of a ring must be allowed to sign."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    KIND: ClassVar[str]
    PURPOSE: ClassVar[str]

    def sign(self, key: SigningKey) -> str:
        """The signed document."""
        return key.sign(self.model_dump(), self.KIND)

    @classmethod
    def read(cls, document: str, ring: KeyRing, epoch_s: float) -> tuple[Self, PublicKey]:
        """Check a document's signature, then read it. Whether it has expired is for the caller to judge.

        Args:
            document: as signed.
            ring: who is trusted.
            epoch_s: the time of day, for the validity of the key, s since the epoch.

        Returns:
            What it says, and the key that has signed it.

        Raises:
            SignatureError: it is not signed by a key that may, or does not say what this kind says.
        """
        signed = verify(document, ring, cls.KIND, cls.PURPOSE, epoch_s)
        try:
            return cls.model_validate(signed.claims), signed.key
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise SignatureError(f"signed, but no {cls.KIND}: {where} {error.errors()[0]['msg']}") from None


def link(server_url: str, page: str, document: str) -> str:
    """What a phone opens: behind # the document is in no request, log or referrer (RFC 9110, 4.2.5 and 10.1.3).

    Args:
        server_url: without /api/v1; empty: the bare document, for an app.
        page: of the server, such as "v".
        document: as signed.
    """
    return f"{server_url.rstrip('/')}/{page}#{document}" if server_url else document


def machine_key_file(data: Path) -> Path:
    """Where a machine keeps its own key for vouchers and offers, in its data folder."""
    return data / "identity" / "voucher.pem"


def machine_public_key(data: Path) -> str:
    """The public half of that key, for the server to know it by; empty where the file cannot be used."""
    try:
        return SigningKey.load_or_make(machine_key_file(data)).public
    except StorageError:  # who signs with it says so
        return ""
