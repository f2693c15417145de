"""What code in a sandbox with a network is given, so that its programs find the gateway and trust what they should."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping

ADDRESS = "127.1.1.1"
"""Of the gateway, in every sandbox that has one."""
PROXY_PORT, NAMES_PORT = 3128, 53
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_MOST = 16 << 20
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_PROXY = f"http://{ADDRESS}:{PROXY_PORT}"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")
_LOCAL = "localhost,127.0.0.1,::1"

ENV: Mapping[str, str] = {
    **dict.fromkeys(_PROXIES, _PROXY),
    "NO_PROXY": _LOCAL,
    "no_proxy": _LOCAL,
    **dict.fromkeys(_BUNDLES, _CERTIFICATES),
}
"""Variables of all its code."""


def files() -> dict[str, bytes]:
    """Path in the sandbox -> content: the name server, and the certificates that this machine trusts.

    Those of `SSL_CERT_FILE` where that is set here: a company's own authority is in there, and not in the others.
    Nothing but certificates is handed over, whatever else stands in that file.
    """
    made = {"/etc/resolv.conf": f"nameserver {ADDRESS}\noptions timeout:2 attempts:2\n".encode("ascii")}
    for path in (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, _CERTIFICATES):
        if path and (bundle := _certificates(path)):
            return {**made, _CERTIFICATES: bundle}
    return {**made, _CERTIFICATES: b""}


def _certificates(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return b"".join(match + b"\n" for match in _CERTIFICATE.findall(file.read(_MOST)))
    except OSError:
        return b""
