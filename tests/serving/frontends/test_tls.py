"""TLS and mutual TLS: real handshakes of gRPC and HTTP clients with certificates of a throw-away authority."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx2 as httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from muxjax.client.__main__ import main
from muxjax.serving.frontends.access import AccessControl, Caller, digest
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from muxjax.serving.frontends.tls import TLS, TLSError
from tests.serving.frontends.echo import Echo, EchoUnit, serve

KEY = "a-key-for-the-test-0123456789"


@dataclass
class Files:
    """PEM files: the authority, the server's, a client's, and another authority that signed neither."""

    ca: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path
    stranger: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("client@example.org")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "stranger.pem")
    for name, leaf in (("server", server), ("client", client)):
        leaf.private_key_pem.write_to_path(folder / f"{name}.key")
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(folder / f"{name}.pem", append=True)
    names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key", "stranger.pem")
    return Files(*(folder / name for name in names))


@pytest.fixture(scope="module")
def secured(files: Files) -> Iterator[Echo]:
    access = AccessControl([(digest(KEY), Caller("test"))])
    with serve(EchoUnit(), access, TLS.load(files.certificate, files.key)) as echo:
        yield echo


@pytest.fixture(scope="module")
def mutual(files: Files) -> Iterator[Echo]:
    with serve(EchoUnit(), tls=TLS.load(files.certificate, files.key, client_ca=files.ca)) as echo:
        yield echo


def models(address: str, credentials: grpc.ChannelCredentials) -> list[str]:
    with grpc.secure_channel(address, credentials) as channel:
        listed = InferenceStub(channel).ListModels(
            pb.ListModelsRequest(), timeout=10, metadata=(("authorization", f"Bearer {KEY}"),)
        )
        return [model.name for model in listed.models]


def get(echo: Echo, context: ssl.SSLContext) -> int:
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.get(f"https://{echo.http.address}/v1/models", headers=headers, verify=context).status_code


def test_clients_that_know_the_authority_get_in(files: Files, secured: Echo) -> None:
    assert "echo" in models(secured.address, grpc.ssl_channel_credentials(files.ca.read_bytes()))
    assert get(secured, ssl.create_default_context(cafile=str(files.ca))) == 200


def test_clients_that_do_not_know_it_refuse_the_server(files: Files, secured: Echo) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        models(secured.address, grpc.ssl_channel_credentials(files.stranger.read_bytes()))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        get(secured, ssl.create_default_context(cafile=str(files.stranger)))


def test_what_is_not_encrypted_is_not_answered(secured: Echo) -> None:
    with grpc.insecure_channel(secured.address) as channel, pytest.raises(grpc.RpcError) as refused:
        InferenceStub(channel).ListModels(pb.ListModelsRequest(), timeout=5)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://{secured.http.address}/health")


def test_old_protocols_are_refused(files: Files, secured: Echo) -> None:
    context = ssl.create_default_context(cafile=str(files.ca))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        get(secured, context)


def test_mutual_tls_lets_in_only_whom_the_authority_signed(files: Files, mutual: Echo) -> None:
    own = (files.client_key.read_bytes(), files.client_certificate.read_bytes())
    assert "echo" in models(mutual.address, grpc.ssl_channel_credentials(files.ca.read_bytes(), *own))
    with pytest.raises(grpc.RpcError) as refused:
        models(mutual.address, grpc.ssl_channel_credentials(files.ca.read_bytes()))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    context = ssl.create_default_context(cafile=str(files.ca))
    with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
        get(mutual, context)
    context.load_cert_chain(files.client_certificate, files.client_key)
    assert get(mutual, context) == 200


def test_the_command_line_client_reaches_secured_servers(
    files: Files, secured: Echo, mutual: Echo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = ["generate", "--model", "echo", "--prompt", "ab", "--max-tokens", "4", "--tls-ca", str(files.ca)]
    with_key = [*generate, "--address", secured.address]
    assert main([*with_key, "--api-key", KEY]) == 0
    monkeypatch.setenv("MUXJAX_API_KEY", KEY)
    assert main(with_key) == 0
    assert capsys.readouterr().out == "abab\nabab\n"
    monkeypatch.setenv("MUXJAX_API_KEY", "wrong")
    assert main(with_key) == 2
    error = "error: the API key is not known here; give it as $MUXJAX_API_KEY or --api-key\n"
    assert capsys.readouterr().err == error
    own = ["--tls-certificate", str(files.client_certificate), "--tls-key", str(files.client_key)]
    assert main([*generate, "--address", mutual.address, *own]) == 0
    assert main([*generate[:-1], "/no/such.pem"]) == 2
    assert capsys.readouterr().err == "error: /no/such.pem: No such file or directory\n"


def test_files_that_do_not_go_together_are_told(files: Files, tmp_path: Path) -> None:
    with pytest.raises(TLSError, match=r"^key: .*client.key and the certificate .* do not go together"):
        TLS.load(files.certificate, files.client_key)
    with pytest.raises(TLSError, match=r"^certificate: /no cannot be read: No such file"):
        TLS.load(Path("/no"), files.key)
    (tmp_path / "text").write_text("nonsense")
    with pytest.raises(TLSError, match=r"^client_ca: .*text holds no certificate"):
        TLS.load(files.certificate, files.key, tmp_path / "text")


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(files: Files, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    (tmp_path / "locked.key").write_bytes(locked)
    with pytest.raises(TLSError, match="the key has a passphrase"):
        TLS.load(files.certificate, tmp_path / "locked.key")
