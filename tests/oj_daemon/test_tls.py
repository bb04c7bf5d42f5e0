"""Tests of oj_daemon/tls.py: real handshakes over loopback; hostile certificates come from trustme."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import stat
import tracemalloc
from pathlib import Path

import pytest
import trustme

from oj_daemon import settings, tls
from oj_daemon.errors import OjError


def config(folder: Path, **variables: str) -> settings.Settings:
    return settings.load({"OJ_STATE_DIR": str(folder), **variables})


async def shown_to(keeper: tls.Keeper, client: ssl.SSLContext, name: str = "localhost") -> bytes:
    """The certificate that a client sees; raises what its handshake raises."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=keeper.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=name
        )
        try:
            writer.write(b"x")
            if await reader.read(1) != b"x":  # TLS 1.3 tells a client without certificate only now
                raise ConnectionResetError
            connection = writer.get_extra_info("ssl_object")
            return bytes(connection.getpeercert(binary_form=True))
        finally:
            writer.close()


def strict(ca: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def blind() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_what_is_made_is_trusted_through_its_ca_and_for_its_names_only(folder: Path) -> None:
    keeper = tls.keep(config(folder, OJ_TLS_NAMES="oj.example,10.1.2.3"))
    ca = folder / "tls" / "ca.pem"
    for name in ("localhost", "127.0.0.1", "oj.example", "10.1.2.3"):
        shown = await shown_to(keeper, strict(ca), name)
        assert hashlib.sha256(shown).hexdigest() == keeper.fingerprint
    with pytest.raises(ssl.SSLCertVerificationError):
        await shown_to(keeper, strict(ca), "elsewhere.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        await shown_to(keeper, ssl.create_default_context(), "localhost")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_old_versions_of_tls_are_refused(folder: Path) -> None:
    keeper = tls.keep(config(folder))
    old = blind()
    old.minimum_version = ssl.TLSVersion.TLSv1_1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shown_to(keeper, old)


def test_what_is_made_is_made_once_and_for_its_owner_alone(folder: Path) -> None:
    first = tls.keep(config(folder)).fingerprint
    assert tls.keep(config(folder)).fingerprint == first
    for name in ("server.key", "ca.key"):
        assert stat.S_IMODE((folder / "tls" / name).stat().st_mode) == 0o600


def test_a_new_name_makes_a_new_certificate_of_the_same_ca(folder: Path) -> None:
    first = tls.keep(config(folder)).fingerprint
    authority = (folder / "tls" / "ca.pem").read_bytes()
    assert tls.keep(config(folder, OJ_TLS_NAMES="oj.example")).fingerprint != first
    assert (folder / "tls" / "ca.pem").read_bytes() == authority


@pytest.mark.parametrize("name", ["FD00::1", "Host.Example", "10.0.0.1"])
def test_a_name_in_another_writing_does_not_make_a_new_certificate_at_each_start(
    folder: Path, name: str
) -> None:
    first = tls.keep(config(folder, OJ_TLS_NAMES=name)).fingerprint
    assert tls.keep(config(folder, OJ_TLS_NAMES=name)).fingerprint == first


def test_a_name_that_no_certificate_can_hold_is_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(OjError, match="no certificate can hold that name") as refused:
        tls.keep(config(folder, OJ_TLS_NAMES="bücher.example"))
    assert "OJ_TLS_NAMES" in refused.value.hint


def given(folder: Path, ca: trustme.CA, name: str = "localhost") -> None:
    made = ca.issue_cert(name)
    chain = b"".join(part.bytes() for part in made.cert_chain_pems)
    (folder / "key.pem").write_bytes(made.private_key_pem.bytes())
    (folder / "chain.pem").write_bytes(chain)


def files(folder: Path) -> dict[str, str]:
    return {"OJ_TLS_CERT": str(folder / "chain.pem"), "OJ_TLS_KEY": str(folder / "key.pem")}


async def test_a_given_certificate_is_used_and_read_again_when_its_files_change(
    folder: Path,
) -> None:
    ca = trustme.CA()
    given(folder, ca)
    keeper = tls.keep(config(folder, **files(folder)))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(client)
    first = await shown_to(keeper, client)
    given(folder, ca)
    second = await shown_to(keeper, client)
    assert first != second
    assert hashlib.sha256(second).hexdigest() == keeper.fingerprint
    assert not (folder / "tls").exists()


def test_the_fingerprint_is_that_of_the_file_before_anybody_has_connected(folder: Path) -> None:
    ca = trustme.CA()
    given(folder, ca)
    keeper = tls.keep(config(folder, **files(folder)))
    before = keeper.fingerprint
    given(folder, ca)
    assert keeper.fingerprint == tls.fingerprint(folder / "chain.pem") != before


async def test_a_certificate_that_breaks_leaves_the_last_good_one_in_use(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given(folder, trustme.CA())
    keeper = tls.keep(config(folder, **files(folder)))
    first = await shown_to(keeper, blind())
    (folder / "chain.pem").write_text("half a")
    assert await shown_to(keeper, blind()) == first
    assert await shown_to(keeper, blind()) == first
    assert caplog.text.count("the last good certificate stays in use") == 1
    given(folder, trustme.CA())
    assert await shown_to(keeper, blind()) != first


@pytest.mark.parametrize("damage", ["missing", "garbage", "other key"])
def test_at_the_start_a_certificate_has_to_be_good(folder: Path, damage: str) -> None:
    given(folder, trustme.CA())
    if damage == "missing":
        (folder / "chain.pem").unlink()
    elif damage == "garbage":
        (folder / "chain.pem").write_text("garbage")
    else:
        (folder / "key.pem").write_bytes(
            trustme.CA().issue_cert("localhost").private_key_pem.bytes()
        )
    with pytest.raises(OjError, match=r"^use the certificate .*chain\.pem: ") as failure:
        tls.keep(config(folder, **files(folder)))
    assert "OJ_TLS_CERT" in failure.value.hint


async def test_clients_show_a_certificate_where_one_is_asked_for(folder: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    given(folder, ours)
    (folder / "clients.pem").write_bytes(ours.cert_pem.bytes())
    keeper = tls.keep(config(folder, **files(folder), OJ_TLS_CLIENT_CA=str(folder / "clients.pem")))
    known, unknown = blind(), blind()
    ours.issue_cert("client@example.org").configure_cert(known)
    theirs.issue_cert("client@example.org").configure_cert(unknown)
    assert await shown_to(keeper, known)
    for client in (unknown, blind()):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shown_to(keeper, client)
    # After a renewal the same is asked for.
    given(folder, ours)
    assert await shown_to(keeper, known)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shown_to(keeper, blind())


async def test_a_connection_that_is_quiet_takes_little_memory_and_much_gets_through_it(
    folder: Path,
) -> None:
    keeper = tls.keep(config(folder))
    sent, count = b"0123456789abcdef" * 65536, 20
    done = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await done.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=keeper.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client, open_ = strict(folder / "tls" / "ca.pem"), []
        tracemalloc.start()
        try:
            for _ in range(count):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=client, server_hostname="localhost"
                )
                assert await reader.readexactly(len(sent)) == sent
                open_.append(writer)
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            done.set()
            for writer in open_:
                writer.close()
    assert taken / (2 * count) < 128 * 1024  # both ends are here
