"""Which servers may be spoken to, and how they prove who they are: TLS 1.2 or later, always verified.

Only a server on this machine (a loopback address, `localhost`) may be spoken to without TLS: desk and tests.
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from myrvm_core.errors import SettingsError


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
