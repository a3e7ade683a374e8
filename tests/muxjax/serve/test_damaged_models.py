"""Damaged models beside a good one, at the start of a server and while it streams: named, and nobody else's concern."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from muxjax.serve.__main__ import main
from muxjax.serving.frontends.grpc import admin_pb2, inference_pb2
from muxjax.serving.frontends.grpc.admin_pb2_grpc import AdminStub
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from tests.models import tokenizers_for_tests
from tests.models.checkpoints import seeded_tensors, write_checkpoint
from tests.muxjax.serve.process import ServerProcess, serve_process
from tests.muxjax.serve.test_serve import IDS, SHAPE, address, request, tokens, write_config

WEIGHTS, INDEX, TOKENIZER = "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
Damage = Callable[[Path], object]


def changed_config(**fields: object) -> Damage:
    return lambda folder: (folder / "config.json").write_text(json.dumps({**SHAPE, **fields}))


def loop(name: str) -> Damage:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(name)

    return make


def header(text: bytes, length: int | None = None) -> Damage:
    size = (len(text) if length is None else length).to_bytes(8, "little")
    return lambda folder: (folder / WEIGHTS).write_bytes(size + text + bytes(8))


def overlapping(folder: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header(json.dumps({"a": entry, "b": entry}).encode())(folder)


def only_one_tensor(folder: Path) -> None:
    write_checkpoint(folder, SHAPE, {"wrong.weight": seeded_tensors(SHAPE)["model.norm.weight"]})


def wrong_types(folder: Path) -> None:
    write_checkpoint(folder, SHAPE, {name: tensor.astype("int32") for name, tensor in seeded_tensors(SHAPE).items()})


UNREADABLE: dict[str, tuple[Damage, str]] = {
    "an unknown architecture": (changed_config(architectures=["NoSuchModel"]), "architecture 'NoSuchModel' is"),
    "an unsupported feature": (changed_config(hidden_act="tanh"), "config.json: hidden_act is 'tanh'"),
    "links in a circle": (loop("config.json"), "config.json: cannot be read"),
}
DAMAGED: dict[str, tuple[Damage, str]] = {
    "missing and extra tensors": (only_one_tensor, "model.norm.weight is missing"),
    "wrong types": (wrong_types, "model.norm.weight has dtype int32"),
    "another shape": (changed_config(intermediate_size=50), "the configuration needs [50, 32]"),
    "truncated": (lambda folder: os.truncate(folder / WEIGHTS, 5000), f"{WEIGHTS}: tensor"),
    "overlapping": (overlapping, f"{WEIGHTS}: tensors a and b overlap"),
    "an absurd header": (header(b"{}", 2**60), f"{WEIGHTS}: announces a header"),
    "an index that points outside": (
        lambda folder: (folder / INDEX).write_text('{"weight_map": {"a": "../b.safetensors"}}'),
        f"{INDEX}: weight_map must name files of the directory itself",
    ),
    "weights that are a link in a circle": (loop(WEIGHTS), f"{WEIGHTS}: cannot be read"),
    "a damaged tokenizer": (lambda folder: (folder / TOKENIZER).write_text("{}"), f"{TOKENIZER}: the tokenizer cannot"),
    "a malformed template": (
        lambda folder: (
            tokenizers_for_tests.load(folder, tokenizers_for_tests.byte_level())
            and (folder / "chat_template.jinja").write_text("{% if %}")
        ),
        "chat_template.jinja: the chat template is malformed",
    ),
}

FAILING_TEMPLATES = {
    "never ends": ("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", "was stopped"),
    "raises": ("{{ raise_exception('roles must alternate') }}", "refuses these messages: roles must alternate"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "ids.json").write_text(json.dumps(SHAPE))
    for case, (damage, _) in {**UNREADABLE, **DAMAGED}.items():
        damage(write_checkpoint(folder / name_of(case), SHAPE, seeded_tensors(SHAPE)))
    return folder


def name_of(case: str) -> str:
    return case.replace(" ", "-")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    llms = ", ".join([f"ids: {IDS}", *(f"{name}: {name}" for name in map(name_of, DAMAGED))])
    config = write_config(folder, f"{{{llms}}}", server="admin_port: 0")
    with serve_process(config) as server:
        server.wait_for("serving")
        yield server


def quotas(server: ServerProcess) -> dict[str, tuple[int, int]]:
    with grpc.insecure_channel(address(server)) as channel:
        models = InferenceStub(channel).GetStatus(inference_pb2.GetStatusRequest()).models
        return {model.name: (model.state, model.blocks_quota) for model in models}


def test_a_server_starts_with_what_is_whole_and_names_the_rest(server: ServerProcess) -> None:
    errors = {event["model"]: event["error"] for event in server.named("failed")}
    assert errors.keys() == set(map(name_of, DAMAGED))
    for case, (_, words) in DAMAGED.items():
        assert words in errors[name_of(case)]
    assert "Traceback" not in server.log()
    pool = quotas(server)
    assert all(pool[name_of(case)] == (inference_pb2.MODEL_STATE_FAILED, 0) for case in DAMAGED)
    assert pool["ids"][1] == 511  # all of 16 MiB


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_configuration_that_cannot_be_read_is_one_line_and_nothing_starts(
    folder: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = name_of(case)
    assert main([write_config(folder, f"{{ids: {IDS}, {name}: {name}}}")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert UNREADABLE[case][1] in line


@pytest.mark.parametrize("case", [*UNREADABLE, *DAMAGED])
def test_loading_it_changes_nothing_and_no_stream(server: ServerProcess, folder: Path, case: str) -> None:
    before = quotas(server)
    load = admin_pb2.LoadRequest(model="new", source=str(folder / name_of(case)))
    with (
        grpc.insecure_channel(address(server)) as channel,
        grpc.insecure_channel(server.named("start")[0]["admin_address"]) as admin_channel,
    ):
        stub, admin = InferenceStub(channel), AdminStub(admin_channel)
        asked = request("ids", max_tokens=400, ignore_eos=True)
        expected = tokens(stub.Generate(asked))
        stream = stub.Generate(asked)
        got = list(next(stream).token_ids)
        words = ({**UNREADABLE, **DAMAGED})[case][1]
        if case in UNREADABLE:
            with pytest.raises(grpc.RpcError) as refused:
                list(admin.Load(load))
            assert words in str(refused.value.details())
        else:
            *_, last = admin.Load(load)
            assert last.state == "failed"
            assert words in last.error
            assert quotas(server) == {**before, "new": (inference_pb2.MODEL_STATE_FAILED, 0)}
            with pytest.raises(grpc.RpcError) as refused:
                admin.SetRate(admin_pb2.SetRateRequest(model="new", rate=2))
            assert "could not be loaded" in str(refused.value.details())
            admin.Unload(admin_pb2.UnloadRequest(model="new"))
        assert got + tokens(stream) == expected
    assert quotas(server) == before


@pytest.mark.parametrize("case", FAILING_TEMPLATES)
def test_a_template_that_fails_fails_its_own_requests_alone(server: ServerProcess, tmp_path: Path, case: str) -> None:
    source, words = FAILING_TEMPLATES[case]
    tokenizers_for_tests.load(
        write_checkpoint(tmp_path, SHAPE, seeded_tensors(SHAPE)), tokenizers_for_tests.byte_level()
    )
    (tmp_path / "chat_template.jinja").write_text(source)
    chat = inference_pb2.Chat(messages=[inference_pb2.ChatMessage(role="user", content="hi")])
    with (
        grpc.insecure_channel(address(server)) as channel,
        grpc.insecure_channel(server.named("start")[0]["admin_address"]) as admin_channel,
    ):
        stub, admin = InferenceStub(channel), AdminStub(admin_channel)
        *_, loaded = admin.Load(admin_pb2.LoadRequest(model="chats", source=str(tmp_path)))
        assert loaded.state == "ready"
        asked = request("ids", max_tokens=400, ignore_eos=True)
        expected = tokens(stub.Generate(asked))
        stream = stub.Generate(asked)
        got = list(next(stream).token_ids)
        with pytest.raises(grpc.RpcError, match=words) as refused:
            list(stub.Generate(inference_pb2.GenerateRequest(model="chats", chat=chat)))
        assert "chat_template.jinja" in str(refused.value.details())
        assert got + tokens(stream) == expected
        assert tokens(stub.Generate(request("chats", max_tokens=3, ignore_eos=True)))
        admin.Unload(admin_pb2.UnloadRequest(model="chats"))
