"""The daemon's side of TLS: its certificate, given or made, and an own CA that signs what is made.

Rule: certificate files are looked at with every handshake, so what was renewed on the disk counts from the next connection on,
and what is broken there leaves the last good certificate in use. Keys are made once, are readable by their owner only, and stay
in the state folder. cryptography is imported only when something has to be made.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import logging
import socket
import ssl
import tempfile
from asyncio import sslproto
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from oj_daemon.errors import OjError
from oj_daemon.store import files

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from oj_daemon.settings import Settings

logger = logging.getLogger(__name__)

LIFETIME: Final = timedelta(days=3650)
"""Of what we make. Long, because clients pin the certificate: a renewal would lock all of them out at once."""
RENEW_BEFORE: Final = timedelta(days=30)
BUFFER_BYTES: Final = 32 * 1024
"""Of each connection, read at once: asyncio's own 256 KB are a quarter of a gigabyte for 1,000 agents in places."""
SKEW: Final = timedelta(minutes=5)
"""Certificates begin in the past, for clients whose clocks are behind (libraries.md 9)."""
Stamp = tuple[tuple[int, int, int], ...]


class Material(NamedTuple):
    """Files of one certificate."""

    chain: Path
    """The certificate and what signed it, PEM."""
    key: Path
    client_ca: Path | None
    """Who signs certificates of clients; None: none is asked for."""


class Keeper:
    """Holds the certificate that the daemon shows; `context` is for the server.

    Raises OjError when there is no certificate that can be used at the start.
    """

    def __init__(self, material: Material) -> None:
        self._material = material
        self._stamp = _stamp(material)
        self._current = _server_context(material)
        self._refused: Stamp | None = None
        self._fingerprint = fingerprint(material.chain)
        self.context = _server_context(material)
        """Hands each handshake the newest certificate."""
        self.context.sni_callback = self._choose

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the newest certificate that can be used, lower-case hex: what clients pin."""
        self.current()
        return self._fingerprint

    def _choose(self, connection: object, _name: str | None, _context: ssl.SSLContext) -> None:
        assert isinstance(connection, ssl.SSLObject)  # noqa: S101 - asyncio's
        connection.context = self.current()

    def current(self) -> ssl.SSLContext:
        """The context of the newest certificate that can be used."""
        stamp = _stamp(self._material)
        if stamp not in (self._stamp, self._refused):
            try:
                renewed = _server_context(self._material)
                shown = fingerprint(self._material.chain)
            except OjError as error:
                # Half written, perhaps: the next change is looked at again.
                self._refused = stamp
                logger.error("%s; the last good certificate stays in use", error.message)
            else:
                self._stamp, self._current, self._fingerprint = stamp, renewed, shown
                logger.info("TLS certificate read again: SHA-256 %s", shown)
        return self._current


def keep(settings: Settings) -> Keeper:
    """The certificate of the settings, or one that is made in the state folder. Raises OjError."""
    client_ca = Path(settings.tls_client_ca) if settings.tls_client_ca else None
    if settings.tls_cert:
        chain = Path(settings.tls_cert)
        key = Path(settings.tls_key) if settings.tls_key else chain
        return Keeper(Material(chain, key, client_ca))
    folder = settings.state_dir / "tls"
    names = (*settings.tls_names, *_bound(settings.tcp_bind))
    made = make_server(folder, names, also=_our_names())
    return Keeper(made._replace(client_ca=client_ca))


def fingerprint(chain: Path) -> str:
    """SHA-256 of the first certificate of a file, lower-case hex. Raises OjError."""
    try:
        text = chain.read_text("ascii")
        end = text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
        der = ssl.PEM_cert_to_DER_cert(text[text.index(ssl.PEM_HEADER) : end])
    except (OSError, ValueError) as error:
        raise _unusable(chain, error) from error
    return hashlib.sha256(der).hexdigest()


def _keep_small() -> None:
    """Let asyncio make smaller buffers for what is connected from now on; there is no other way to say it than for all."""
    sslproto.SSLProtocol.max_size = BUFFER_BYTES


def _server_context(material: Material) -> ssl.SSLContext:
    _keep_small()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # With a password function OpenSSL does not ask the terminal for one.
        context.load_cert_chain(material.chain, material.key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise _unusable(material.chain, error) from error
    if material.client_ca is not None:
        try:
            context.load_verify_locations(material.client_ca)
        except (OSError, ValueError) as error:
            raise _unusable(material.client_ca, error) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _unusable(path: Path, error: Exception) -> OjError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OjError(
        f"use the certificate {path}: {reason}",
        code="invalid",
        hint="OJ_TLS_CERT, OJ_TLS_KEY and OJ_TLS_CLIENT_CA name PEM files; unset them and the daemon makes its own",
    )


def _stamp(material: Material) -> Stamp:
    """What changes when a file does: also the link of a mounted Secret, which is swapped as a whole."""
    seen = []
    for path in (material.chain, material.key, material.client_ca):
        if path is None:
            continue
        try:
            found = path.stat()
        except OSError:
            seen.append((0, 0, 0))
        else:
            seen.append((found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(seen)


# What is made


def make_server(folder: Path, names: Sequence[str], *, also: Sequence[str] = ()) -> Material:
    """The server's certificate below `folder`, made when there is none that is good for `names`.

    `also` are names that a new one gets besides, but for whose sake none is replaced: clients pin it. Raises StoreError.
    """
    material = Material(folder / "server.pem", folder / "server.key", None)
    if _is_good(material.chain, names) and material.key.exists():
        return material
    files.make_folder(folder)
    authority, key = _authority(folder)
    wanted = list(dict.fromkeys((*names, *also, "localhost", "127.0.0.1", "::1")))
    certificate, own_key = _issue(authority, key, wanted)
    # The certificate last: it is what the next start looks at.
    _write_key(material.key, own_key)
    chain = _pem(certificate) + _pem(authority)
    _write(material.chain, chain)
    logger.info("made a TLS certificate for %s", ", ".join(wanted))
    return material


class Authority:
    """The daemon's own CA, which signs a certificate for each place, and one for the daemon to show there."""

    def __init__(self, folder: Path) -> None:
        files.make_folder(folder)
        self._certificate, self._key = _authority(folder)
        self.pem = _pem(self._certificate).decode()
        """What others check by."""

    def issue(self, name: str, *, for_client: bool = False) -> tuple[str, str]:
        """A certificate with the CA's behind it, and its key; both PEM."""
        certificate, key = _issue(self._certificate, self._key, [name], for_client=for_client)
        return (_pem(certificate) + _pem(self._certificate)).decode(), _key_pem(key).decode()

    def context(self, name: str) -> ssl.SSLContext:
        """For connections to places, showing a certificate of that name; whoever this CA has not signed is not trusted."""
        _keep_small()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.pem)
        certificate, key = self.issue(name, for_client=True)
        # OpenSSL reads certificates from files only.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # of mode 0600
            file.write(key + certificate)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def _bound(address: str) -> tuple[str, ...]:
    """The bind address as a name of the certificate, where it is one that a client can type."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address).is_unspecified:
            return ()
    return (address,)


def _our_names() -> tuple[str, ...]:
    name = socket.gethostname()
    return (name,) if name else ()


def _is_good(path: Path, names: Sequence[str]) -> bool:
    """Whether a certificate is there, lasts, and has all the names."""
    from cryptography import x509  # noqa: PLC0415 - see the rule above

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    lasts = certificate.not_valid_after_utc > datetime.now(UTC) + RENEW_BEFORE
    return lasts and set(found).issuperset(map(_general_name, names))


def _authority(folder: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """The daemon's own CA, made once."""
    from cryptography import x509  # noqa: PLC0415 - see the rule above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - the same
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - the same

    chain, key_path = folder / "ca.pem", folder / "ca.key"
    try:
        certificate = x509.load_pem_x509_certificate(chain.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (OSError, ValueError):
        pass
    else:
        lasts = certificate.not_valid_after_utc > datetime.now(UTC) + RENEW_BEFORE
        if isinstance(key, ec.EllipticCurvePrivateKey) and lasts:
            return certificate, key
    made_key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"oj CA {made_key.public_key().public_numbers().x & 0xFFFFFFFF:08x}")
    builder = (
        _builder(name, name, made_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(made_key.public_key()), critical=False
        )
    )
    made = _sign(builder, made_key)
    _write_key(key_path, made_key)
    _write(chain, _pem(made))
    return made, made_key


def _issue(
    authority: x509.Certificate,
    key: EllipticCurvePrivateKey,
    names: Sequence[str],
    *,
    for_client: bool = False,
) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509  # noqa: PLC0415 - see the rule above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - the same
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415 - the same

    own = ec.generate_private_key(ec.SECP256R1())
    role = ExtendedKeyUsageOID.CLIENT_AUTH if for_client else ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        _builder(_name(names[0]), authority.subject, own)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([role]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
    )
    return _sign(builder, key), own


def _name(text: str) -> x509.Name:
    from cryptography import x509  # noqa: PLC0415 - see the rule above
    from cryptography.x509.oid import NameOID  # noqa: PLC0415 - the same

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general_name(text: str) -> x509.GeneralName:
    from cryptography import x509  # noqa: PLC0415 - see the rule above

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError as error:
        raise OjError(
            f"make a TLS certificate for {text}: no certificate can hold that name",
            code="invalid",
            hint="write it in OJ_TLS_NAMES as DNS has it (xn--...), or give a certificate by OJ_TLS_CERT",
        ) from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    from cryptography import x509  # noqa: PLC0415 - see the rule above

    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - SKEW,
        not_valid_after=now + LIFETIME,
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509  # noqa: PLC0415 - see the rule above

    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - see the rule above

    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - see above

    return certificate.public_bytes(Encoding.PEM)


def _write_key(path: Path, key: EllipticCurvePrivateKey) -> None:
    _write(path, _key_pem(key))


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - see the rule above

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, data: bytes) -> None:
    try:
        files.replace_file(path, data, durable=True)
    except OSError as error:
        raise files.store_error(error, "write", path) from error
