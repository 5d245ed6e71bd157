"""Ed25519 signatures over canonical JSON: what the operator signs for a machine, and what a machine signs itself.

A signed document is a compact JWS (RFC 7515) with `alg` EdDSA (RFC 8037), the signer's `kid`, and a `typ` that says
what the document is, so that one kind never passes for another. Its payload is a JSON object in the one canonical form
of RFC 8785: a document whose names come twice, whose numbers are not finite or whose text is not UTF-8 has none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import jwt
import rfc8785
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import Field, field_validator

from myrvm_core import durable
from myrvm_core.errors import SettingsError, SignatureError, StorageError
from myrvm_core.settings import Settings, read_yaml, validate

ALGORITHM = "EdDSA"
DOCUMENT_BYTES = 16_384
HEADER_CHARACTERS = 512
_JWS = jwt.PyJWS(algorithms=[ALGORITHM])


@dataclass(frozen=True)
class SigningKey:
    """A private key and its name. Neither shows when it is printed."""

    key_id: str
    _private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id!r})"

    @staticmethod
    def generate(key_id: str = "") -> SigningKey:
        """A new key; without a name it is named by its thumbprint."""
        return _named(Ed25519PrivateKey.generate(), key_id)

    @staticmethod
    def load_or_make(file: Path, key_id: str = "") -> SigningKey:
        """The key in a PEM file that only its owner can read; made, and on disk for good, where there is none.

        Raises:
            StorageError: the file cannot be made, cannot be read, is open to others, or holds no Ed25519 key.
        """
        try:
            if not file.exists():
                _make(file)
            if file.stat().st_mode & 0o077:
                raise StorageError(f"{file} has mode {file.stat().st_mode & 0o777:o}; allowed: 600")
            private = load_pem_private_key(file.read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StorageError(f"{file} cannot be used as a key: {error}") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise StorageError(f"{file} holds a key of another kind; allowed: Ed25519")
        return _named(private, key_id)

    @property
    def public(self) -> str:
        """The public key, 32 bytes in base64url as in a key ring."""
        return _public_text(self._private.public_key())

    def sign(self, claims: Mapping[str, Any], kind: str) -> str:
        """A signed document.

        Args:
            claims: what JSON can say, whole numbers within +-2**53.
            kind: the header's `typ`.

        Raises:
            ValueError: the claims have no canonical form.
        """
        headers = {"kid": self.key_id, "typ": kind}
        payload = canonical(claims)
        canonical(json.loads(payload))  # a float such as 2.0**60 is written as an integer that nobody may read
        return _JWS.encode(payload, self._private, ALGORITHM, headers)


class PublicKey(Settings):
    """One key of a ring: who may sign what, and when."""

    key_id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")
    public: str = Field(description="32 bytes in base64url", pattern=r"^[A-Za-z0-9_-]{43}$")
    purposes: frozenset[str] = Field(min_length=1)
    not_before: datetime | None = None
    not_after: datetime | None = None

    @field_validator("not_before", "not_after")
    @classmethod
    def _with_zone(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a zone; allowed: such as 2026-01-31T00:00:00Z")
        return value

    @field_validator("public")
    @classmethod
    def _is_key(cls, value: str) -> str:
        _public_key(value)
        return value

    def valid_at(self, epoch_s: float) -> bool:
        """Whether it may sign at that moment, s since the epoch."""
        begun = self.not_before is None or self.not_before.timestamp() <= epoch_s
        return begun and (self.not_after is None or epoch_s < self.not_after.timestamp())


class KeyRing(Settings):
    """The public keys that are trusted. Old and new ones stand beside each other while keys are changed."""

    keys: tuple[PublicKey, ...] = ()

    @field_validator("keys")
    @classmethod
    def _named_once(cls, keys: tuple[PublicKey, ...]) -> tuple[PublicKey, ...]:
        names = [key.key_id for key in keys]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"key_id {', '.join(sorted(twice))} comes twice")
        if len({key.public for key in keys}) < len(keys):
            raise ValueError("one public key comes under two names")
        return keys

    @staticmethod
    def load(file: Path) -> KeyRing:
        """Read a YAML file of `keys`.

        Raises:
            SettingsError: it is not there, or something in it is not allowed.
        """
        return validate(KeyRing, _mapping(read_yaml(file), file), str(file))

    def find(self, key_id: str) -> PublicKey | None:
        """The key of that name."""
        return next((key for key in self.keys if key.key_id == key_id), None)


@dataclass(frozen=True)
class Signed:
    """A document whose signature holds: what it says, its bytes as signed, and who signed it."""

    claims: dict[str, Any]
    payload: bytes
    key: PublicKey


def verify(document: str, ring: KeyRing, kind: str, purpose: str, epoch_s: float) -> Signed:
    """Check who signed a document, before anything in it is read.

    Args:
        document: a compact JWS.
        ring: who is trusted.
        kind: the `typ` that it must have.
        purpose: what its key must be allowed to sign.
        epoch_s: the time of day for the key's validity, s since the epoch.

    Raises:
        SignatureError: it is too long or no JWS, of another kind, signed by nobody known, not allowed, too early or too
            late, its signature does not hold, or its payload is not canonical.
    """
    if len(document) > DOCUMENT_BYTES:
        raise SignatureError(f"a document of {len(document)} characters; allowed: {DOCUMENT_BYTES}")
    if not document.isascii() or document.count(".") != 2 or document.index(".") > HEADER_CHARACTERS:
        raise SignatureError("no compact JWS")
    try:
        header = jwt.get_unverified_header(document)
    except (jwt.InvalidTokenError, RecursionError, ValueError):
        raise SignatureError("no compact JWS") from None
    if header.get("typ") != kind or header.keys() != {"alg", "kid", "typ"}:
        raise SignatureError(f"a header that is not of a {kind}: {sorted(header)}")
    key = ring.find(str(header["kid"]))
    if key is None:
        raise SignatureError(f"signed with {str(header['kid'])[:100]!r}, which is not known")
    if purpose not in key.purposes:
        raise SignatureError(f"key {key.key_id} may not sign a {purpose}; allowed: {', '.join(sorted(key.purposes))}")
    if not key.valid_at(epoch_s):
        raise SignatureError(f"key {key.key_id} is not valid now")
    try:
        payload = _JWS.decode(document, _public_key(key.public), [ALGORITHM])
    except (jwt.InvalidTokenError, ValueError):
        raise SignatureError(f"the signature of {key.key_id} does not hold") from None
    return Signed(parse_canonical(cast("bytes", payload)), cast("bytes", payload), key)


def canonical(claims: Mapping[str, Any]) -> bytes:
    """The one way to write a JSON object (RFC 8785); ValueError where there is none."""
    try:
        return rfc8785.dumps(dict(claims))
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise ValueError(f"no canonical JSON: {error}") from error


def parse_canonical(payload: bytes) -> dict[str, Any]:
    """Read a JSON object; SignatureError where it is not written in the canonical way."""
    try:
        claims = json.loads(payload)
        if not isinstance(claims, dict) or canonical(cast("dict[str, Any]", claims)) != payload:
            raise SignatureError("a payload that is no JSON object in the form of RFC 8785")
    except (ValueError, RecursionError):
        raise SignatureError("a payload that is no JSON object in the form of RFC 8785") from None
    return cast("dict[str, Any]", claims)


def thumbprint(public: str) -> str:
    """Short name of a public key: the first 8 bytes of its SHA-256, in hex."""
    return hashlib.sha256(_decoded(public)).hexdigest()[:16]


def _make(file: Path) -> None:
    """A new key in `file`, unless another process was quicker: then that one's counts."""
    made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    candidate = file.with_name(f"{file.name}.{uuid.uuid4()}")
    durable.replace(candidate, made, mode=0o600)
    with suppress(FileExistsError):
        file.hardlink_to(candidate)
    durable.remove(candidate)


def _named(private: Ed25519PrivateKey, key_id: str) -> SigningKey:
    return SigningKey(key_id or thumbprint(_public_text(private.public_key())), private)


def _public_text(public: Ed25519PublicKey) -> str:
    return base64.urlsafe_b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).rstrip(b"=").decode()


def _public_key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(_decoded(text))


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _mapping(value: Any, file: Path) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise SettingsError(f"{file} holds a {type(value).__name__}; allowed: a mapping of keys")
    return cast("dict[str, Any]", value or {})
