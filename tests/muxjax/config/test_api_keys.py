"""The file of API keys: what it means, and that what is wrong with it is told without quoting a key."""

import hashlib
import os
from pathlib import Path

import pytest

from muxjax.config import ConfigurationError, load_config
from muxjax.config.api_keys import load_api_keys
from muxjax.serve.__main__ import main
from muxjax.serve.security import load_security
from muxjax.serving.frontends.access import Unauthenticated
from muxjax.serving.frontends.rate_limit import RateLimited

SECRET = "sk-alice-0123456789abcdef"
HASHED = hashlib.sha256(b"sk-bob-0123456789abcdefgh").hexdigest()


def write(folder: Path, text: str) -> Path:
    path = folder / "keys.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_keys_have_names_models_and_limits(tmp_path: Path) -> None:
    text = f"""\
keys:
  alice: {SECRET}
  bob:
    key: sha256:{HASHED}
    models: [code]
    requests_per_minute: 1
"""
    access = load_api_keys(write(tmp_path, text), ["code", "prose"])
    alice = access.authenticate(f"Bearer {SECRET}")
    bob = access.authenticate("Bearer sk-bob-0123456789abcdefgh")
    assert (alice.name, alice.models) == ("alice", None)
    assert (bob.name, bob.models) == ("bob", frozenset({"code"}))
    bob.limits.take_request(1)
    with pytest.raises(RateLimited):
        bob.limits.take_request(1)
    with pytest.raises(Unauthenticated):
        access.authenticate(f"Bearer sha256:{HASHED}")  # who stole the file has hashes, and gets in with none
    with pytest.raises(Unauthenticated):
        access.authenticate(f"Bearer {HASHED}")


def test_everything_that_is_wrong_is_told_with_its_line_and_without_a_key(tmp_path: Path) -> None:
    text = f"""\
keys:
  short: tooshort
  spaced: sk 0123456789 abcdefgh
  number: 12345678901234567890
  typo: {{key: {SECRET}, modells: [code]}}
  bare: {{models: [code]}}
  odd: {{key: {SECRET}x, requests_per_minute: 0}}
  listed: [{SECRET}]
"""
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as refused:
        load_api_keys(path, ["code"])
    lines = str(refused.value).splitlines()
    starts = [line.removeprefix(f"{path}:").split(": ")[:2] for line in lines]
    assert starts == [
        ["2", "keys.short.key"],
        ["3", "keys.spaced.key"],
        ["4", "keys.number.key"],
        ["5", "keys.typo.modells"],
        ["6", "keys.bare.key"],
        ["7", "keys.odd.requests_per_minute"],
        ["8", "keys.listed.key"],
    ]
    assert not any(secret in str(refused.value) for secret in (SECRET, "tooshort", "0123456789"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "keys: is missing"),
        ("keys: {}", "keys: is empty"),
        (f"keys: {{a: {SECRET}, b: {SECRET}}}", "two names have the same key"),
        (f"keys: {{a: {{key: {SECRET}, models: [cod]}}}}", r"keys.a.models.0: 'cod' is none .*did you mean 'code'"),
        ("keys: [", "this is not YAML"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        load_api_keys(write(tmp_path, text), ["code"])
    assert SECRET not in str(refused.value)


def config(folder: Path, server: str) -> Path:
    path = folder / "muxjax.yaml"
    path.write_text(f"server: {{{server}}}\n")
    return path


def test_paths_start_at_the_configuration_and_missing_files_are_told(tmp_path: Path) -> None:
    write(tmp_path, f"keys: {{a: {SECRET}}}")
    loaded = load_config(config(tmp_path, "api_keys: keys.yaml"))
    assert load_security(loaded, loaded.config).access.authenticate(f"Bearer {SECRET}").name == "a"
    with pytest.raises(ConfigurationError, match=r"server.tls.key: there is no file .*k.pem"):
        load_config(config(tmp_path, "tls: {certificate: keys.yaml, key: k.pem}"))
    broken = load_config(config(tmp_path, "tls: {certificate: keys.yaml, key: keys.yaml}"))
    with pytest.raises(ConfigurationError, match=r"muxjax.yaml:1: server.tls.key: .* do not go together"):
        load_security(broken, broken.config)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("", []),
        ("host: '::1'", []),
        ("host: localhost, api_keys: keys.yaml", []),
        ("host: 0.0.0.0", ["whoever reaches 0.0.0.0 can use this server", "is not encrypted"]),
        ("host: 0.0.0.0, api_keys: keys.yaml", ["is not encrypted"]),
        ("host: example.org", ["whoever reaches", "is not encrypted"]),
    ],
)
def test_listening_beyond_this_machine_without_keys_or_encryption_is_warned_of(
    tmp_path: Path, server: str, words: list[str]
) -> None:
    write(tmp_path, f"keys: {{a: {SECRET}}}")
    loaded = load_config(config(tmp_path, server))
    warnings = load_security(loaded, loaded.config).warnings
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path, f"keys: {{a: {SECRET}}}")
    path.chmod(0o644)
    loaded = load_config(config(tmp_path, "api_keys: keys.yaml"))
    (warning,) = load_security(loaded, loaded.config).warnings
    assert warning == f"{path} can be read by other users: chmod 600 {path}"
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_check_shows_what_is_asked_of_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, f"keys: {{a: {SECRET}}}")
    assert main([str(config(tmp_path, "api_keys: keys.yaml")), "--check"]) == 0
    assert f"security   API keys of {path}, not encrypted" in capsys.readouterr().out
