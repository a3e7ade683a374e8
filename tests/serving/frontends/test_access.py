"""API keys over real sockets, gRPC and HTTP alike: who gets in, who may ask what, and how much."""

from collections.abc import Iterator

import grpc
import httpx2 as httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from muxjax.serving.frontends.access import ANYONE, AccessControl, Caller, Unauthenticated, digest
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from muxjax.serving.frontends.rate_limit import Allowance, RateLimited, RateLimits
from tests.serving.frontends.echo import Echo, EchoUnit, serve

ALL, ONE, FEW_REQUESTS, FEW_TOKENS = (f"key-of-{name}-0123456789" for name in ("all", "one", "requests", "tokens"))


def access() -> AccessControl:
    callers = {
        ALL: Caller("all"),
        ONE: Caller("one", models=frozenset({"ids"})),
        FEW_REQUESTS: Caller("requests", limits=RateLimits(requests_per_minute=2)),
        FEW_TOKENS: Caller("tokens", limits=RateLimits(tokens_per_minute=20)),
    }
    return AccessControl([(digest(key), caller) for key, caller in callers.items()])


@pytest.fixture
def echo() -> Iterator[Echo]:
    with serve(EchoUnit(), access()) as running:
        yield running


def bearer(key: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {key}"),)


def generate(echo: Echo, key: str, model: str = "echo", max_tokens: int = 5) -> str | grpc.RpcError:
    """The text, or the error that came instead."""
    message = pb.GenerateRequest(
        model=model, token_ids=pb.TokenIds(ids=[65]), sampling=pb.SamplingParams(max_tokens=max_tokens)
    )
    with echo.stub() as stub:
        try:
            return "".join(message.text for message in stub.Generate(message, metadata=bearer(key)))
        except grpc.RpcError as error:
            return error


WRONG = [None, "", "Bearer", f"Bearer {ALL}x", f"Bearer {ALL[:-1]}", f"Basic {ALL}", ALL]


@pytest.mark.parametrize("header", WRONG)
def test_http_without_the_right_key_is_unauthorized(echo: Echo, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/v1/models", "/v1/models/echo", "/v1/nothing", "/health/", "//health", "/health%2f..%2fv1/models"):
        response = httpx.get(f"{echo.url}{path}", headers=headers)
        assert response.status_code == 401, path
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", WRONG)
def test_grpc_without_the_right_key_is_unauthenticated(echo: Echo, header: str | None) -> None:
    metadata = () if header is None else (("authorization", header),)
    with grpc.insecure_channel(echo.address) as channel:
        stub = InferenceStub(channel)
        unknown = channel.unary_unary("/no.Such/Method")
        calls = (
            lambda: stub.ListModels(pb.ListModelsRequest(), metadata=metadata),
            lambda: stub.GetStatus(pb.GetStatusRequest(), metadata=metadata),
            lambda: list(stub.Generate(pb.GenerateRequest(model="echo", text="a"), metadata=metadata)),
            lambda: unknown(b"", metadata=metadata),
        )
        for call in calls:
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError):
            ProtoReflectionDescriptorDatabase(channel).get_services()
    assert not echo.unit.live


def test_health_and_version_need_no_key(echo: Echo) -> None:
    assert httpx.get(f"{echo.url}/health").status_code == 200
    assert httpx.get(f"{echo.url}/version").status_code == 200
    with grpc.insecure_channel(echo.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def test_the_right_key_gets_in(echo: Echo) -> None:
    assert generate(echo, ALL) == "AAAAA"
    models = httpx.get(f"{echo.url}/v1/models", headers={"Authorization": f"bearer {ALL}"}).json()["data"]
    assert [model["id"] for model in models] == ["echo", "ids"]


def test_a_key_sees_and_asks_only_its_models(echo: Echo) -> None:
    headers = {"Authorization": f"Bearer {ONE}"}
    assert generate(echo, ONE, "ids") == "AAAAA"
    assert generate(echo, ONE, "echo").code() == grpc.StatusCode.PERMISSION_DENIED
    models = httpx.get(f"{echo.url}/v1/models", headers=headers).json()["data"]
    assert [model["id"] for model in models] == ["ids"]
    refused = httpx.get(f"{echo.url}/v1/models/echo", headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    with echo.stub() as stub:
        listed = stub.ListModels(pb.ListModelsRequest(), metadata=bearer(ONE)).models
        figures = stub.GetStatus(pb.GetStatusRequest(), metadata=bearer(ONE)).models
    assert [model.name for model in (*listed, *figures)] == ["ids", "ids"]


def test_requests_per_minute_are_counted_by_key(echo: Echo) -> None:
    assert [generate(echo, FEW_REQUESTS) for _ in range(2)] == ["AAAAA"] * 2
    refused = generate(echo, FEW_REQUESTS)
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "its requests per minute" in refused.details()
    assert 1 <= int(dict(refused.trailing_metadata())["retry-after"]) <= 30
    assert generate(echo, ALL) == "AAAAA"


def test_tokens_per_minute_count_prompts_and_completions(echo: Echo) -> None:
    assert generate(echo, FEW_TOKENS, max_tokens=100) == "A" * 100  # overdrawn: paid when it has ended
    refused = generate(echo, FEW_TOKENS)
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 200 < int(dict(refused.trailing_metadata())["retry-after"]) <= 246


def test_a_refused_request_costs_nothing() -> None:
    now = [0.0]
    limits = RateLimits(requests_per_minute=60, tokens_per_minute=60, clock=lambda: now[0])
    limits.take_request(60)
    for _ in range(100):
        with pytest.raises(RateLimited):
            limits.take_request(10)
    now[0] += 10.0
    limits.take_request(10)


def test_an_allowance_refills_to_a_minutes_worth_and_pays_back_what_was_overdrawn() -> None:
    now = [0.0]
    allowance = Allowance(60, clock=lambda: now[0])
    assert allowance.seconds_until(1000) == 0  # more than can ever be there is let through by a full one
    allowance.spend(180)
    assert allowance.seconds_until(1) == pytest.approx(121)
    now[0] += 121
    assert allowance.seconds_until(1) == pytest.approx(0)
    now[0] += 10_000
    allowance.spend(60)
    assert allowance.seconds_until(1) == pytest.approx(1)


def test_without_keys_everyone_is_let_in() -> None:
    assert AccessControl().authenticate(None) is ANYONE
    with pytest.raises(Unauthenticated):
        access().authenticate(None)


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2026-48746: how long a refusal takes must say nothing about the keys."""
    compared: list[bytes] = []
    control = access()
    monkeypatch.setattr(
        "muxjax.serving.frontends.access.hmac.compare_digest",
        lambda known, sent: (compared.append(known), known == sent)[1],
    )
    for key in (ALL, FEW_TOKENS):
        compared.clear()
        control.authenticate(f"Bearer {key}")
        assert len(compared) == 4


def test_keys_are_in_no_representation() -> None:
    assert not any(key in repr((access(), vars(access()))) for key in (ALL, ONE))
