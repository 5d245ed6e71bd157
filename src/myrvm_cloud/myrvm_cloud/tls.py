"""Which servers may be spoken to, and how they prove who they are: TLS 1.2 or later, always verified.

Only a server on this machine (a loopback address, `localhost`) may be spoken to without TLS: desk and tests.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from myrvm_core.errors import SettingsError
from myrvm_core.settings import Settings

EXPIRES_SOON = timedelta(days=30)


def is_loopback(host: str) -> bool:
    """Whether a host can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_url(url: str, name: str = "server_url") -> None:
    """Refuse a URL that would carry the key in the clear, or that carries a secret itself.

    Raises:
        SettingsError: says what is allowed; a password is not shown.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise SettingsError(f"{name} is no URL ({error}); allowed: https://host[:port][/path]") from None
    if "@" in parts.netloc:
        raise SettingsError(f"{name} holds a user name or password; allowed: https://host[:port][/path]")
    if not host or parts.query or parts.fragment:
        raise SettingsError(f"{name} = {url!r} is not allowed: https://host[:port][/path]")
    if parts.scheme not in ("https", "wss") and not is_loopback(host):
        raise SettingsError(
            f"{name} = {url!r} is not allowed: {parts.scheme}:// is for this machine only, use https://"
        )


def context(ca_file: str = "", certificate: str = "", key: str = "") -> ssl.SSLContext:
    """What a connection is checked with.

    Args:
        ca_file: PEM file of the only authorities that are believed; empty: those of the system.
        certificate: PEM file of this machine's own certificate, with those that lead to an authority; empty: none.
        key: PEM file of its private key; empty: it is in the certificate's file.

    Raises:
        SettingsError: a file cannot be read, or is not of that kind.
    """
    if key and not certificate:
        raise SettingsError(f"tls_client_key = {key!r} is given without tls_client_certificate; allowed: both")
    try:
        made = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as error:
        raise SettingsError(f"tls_ca_file = {ca_file!r} cannot be used: {_reason(error)}") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        for name, file in (("tls_client_certificate", certificate), ("tls_client_key", key)):
            if file and not Path(file).is_file():
                raise SettingsError(f"{name} = {file!r} cannot be used: no such file")
        try:
            # The password that is no password: OpenSSL would ask at the terminal for that of an encrypted key.
            made.load_cert_chain(certificate, key or None, password="")
        except (OSError, ValueError) as error:
            files = f"tls_client_certificate = {certificate!r}, tls_client_key = {key!r}"
            raise SettingsError(f"{files} cannot be used: {_reason(error)}") from None
    return made


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no PEM file of that kind ({error.reason or 'nothing in it'})"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def check(nodes: Mapping[str, Settings]) -> None:
    """For `rvm check`: the files of TLS that the cloud bridge's settings name.

    Raises:
        SettingsError: a line for each that cannot be used, or not for long.
    """
    from myrvm_cloud.settings import CloudBridgeSettings  # it judges its URLs with this module

    bridge = nodes["cloud_bridge"]
    assert isinstance(bridge, CloudBridgeSettings)
    files = bridge.tls_ca_file, bridge.tls_client_certificate, bridge.tls_client_key
    if problems := examine(*files, datetime.now(timezone.utc)):
        raise SettingsError(*problems)


def examine(ca_file: str, certificate: str, key: str, now: datetime) -> list[str]:
    """What is wrong with the files that `context` takes, one line each; also what will be within `EXPIRES_SOON`."""
    problems: list[str] = []
    if key and not certificate:
        problems.append(f"tls_client_key = {key!r} is given without tls_client_certificate; allowed: both")
    try:
        if ca_file:  # one authority that is still good is enough
            _not_soon("tls_ca_file", ca_file, max(_certificates("tls_ca_file", ca_file), key=_end), now)
    except SettingsError as error:
        problems += error.problems
    try:
        if certificate:
            chain = _certificates("tls_client_certificate", certificate)
            _fits(certificate, chain[0], key)
            _not_soon("tls_client_certificate", certificate, min(chain, key=_end), now)
    except SettingsError as error:
        problems += error.problems
    return problems


def _end(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc


def _certificates(name: str, file: str) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_content(name, file))
    except ValueError:
        raise SettingsError(f"{name} = {file!r} holds no certificate in PEM") from None


def _fits(certificate: str, leaf: x509.Certificate, key: str) -> None:
    name, file = ("tls_client_key", key) if key else ("tls_client_certificate", certificate)
    try:
        private = load_pem_private_key(_content(name, file), None)
    except TypeError:
        raise SettingsError(f"{name} = {file!r} is encrypted; allowed: a key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"{name} = {file!r} holds no private key in PEM") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise SettingsError(f"{name} = {file!r} does not belong to tls_client_certificate = {certificate!r}")


def _not_soon(name: str, file: str, certificate: x509.Certificate, now: datetime) -> None:
    if (end := _end(certificate)) < now + EXPIRES_SOON:
        word = "has expired" if end < now else f"expires in {(end - now).days} days"
        raise SettingsError(f"{name} = {file!r} {word}, on {end:%Y-%m-%d}; allowed: more than {EXPIRES_SOON.days} days")


def _content(name: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{name} = {file!r} cannot be read: {error.strerror}") from None
