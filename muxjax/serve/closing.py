"""The lines to copy once the server runs."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from muxjax.client.connection import DEFAULT_ADDRESS, KEY_VARIABLE
from muxjax.config import Config
from muxjax.serve.display import Addresses
from muxjax.serving.endpoint import Endpoint

_PROMPTS = {"demo:code": "def fibonacci(n):", "demo:prose": "Return a list of", "demo:arithmetic": "123+456="}


def closing_block(config: Config, endpoints: list[Endpoint], addresses: Addresses) -> str:
    """How to ask each LLM that is ready."""
    if not endpoints:
        return "No model is ready."
    python = shlex.quote(python_command())
    where = "" if addresses.grpc == DEFAULT_ADDRESS else f" --address {addresses.grpc}"
    tls, has_keys = config.server.tls, config.server.api_keys is not None
    if tls is not None:
        where += f" --tls-ca {shlex.quote(str(tls.certificate))}"
    lines = [
        f"Serving {', '.join(endpoint.name for endpoint in endpoints)} on {addresses}. Try, in another terminal:",
        "",
    ]
    lines += [_generate(python, where, endpoint, config.llms[endpoint.name].source) for endpoint in endpoints]
    lines.append(f"  {python} -m muxjax.client status{where}")
    if addresses.url is not None:
        lines.append(_curl(endpoints[0], config, addresses.url))
    if has_keys:
        lines.insert(2, f"  export {KEY_VARIABLE}=...  # one of the keys in {config.server.api_keys}")
    page = "" if addresses.url is None else f"at {addresses.url}/ui, or "
    lines += ["", f"Watch it {page}in a terminal: {python} -m muxjax.top{where}"]
    if has_keys or tls is not None:
        return "\n".join(lines) + "\n"
    lines += ["", "or, in Python:", ""]
    return "\n".join(lines + _python(endpoints[0], config.llms[endpoints[0].name].source, addresses.grpc)) + "\n"


def _generate(python: str, where: str, endpoint: Endpoint, source: str) -> str:
    prompt = f"--prompt {shlex.quote(_prompt(source))}" if endpoint.tokenizer else "--token-ids 1,2,3"
    return (
        f"  {python} -m muxjax.client generate{where} --model {endpoint.name} {prompt} --max-tokens 64 --temperature 0"
    )


def _curl(endpoint: Endpoint, config: Config, url: str) -> str:
    prompt = _prompt(config.llms[endpoint.name].source) if endpoint.tokenizer else [1, 2, 3]
    body = json.dumps({"model": endpoint.name, "prompt": prompt, "max_tokens": 64, "temperature": 0})
    options = "-H 'Content-Type: application/json'"
    if config.server.tls is not None:
        options += f" --cacert {shlex.quote(str(config.server.tls.certificate))}"
    if config.server.api_keys is not None:
        options += f' -H "Authorization: Bearer ${KEY_VARIABLE}"'
    return f"  curl -s {url}/v1/completions {options} -d {shlex.quote(body)}"


def _python(endpoint: Endpoint, source: str, address: str) -> list[str]:
    prompt, news = "token_ids=pb.TokenIds(ids=[1, 2, 3])", "*message.token_ids, end=' '"
    if endpoint.tokenizer:
        prompt, news = f"text={_prompt(source)!r}", "message.text, end=''"
    return [
        "  import grpc",
        "  from muxjax.serving.frontends.grpc import inference_pb2 as pb, inference_pb2_grpc",
        f'  stub = inference_pb2_grpc.InferenceStub(grpc.insecure_channel("{address}"))',
        f'  request = pb.GenerateRequest(model="{endpoint.name}", {prompt}, sampling=pb.SamplingParams(max_tokens=64))',
        "  for message in stub.Generate(request):",
        f"      print({news}, flush=True)",
    ]


def _prompt(source: str) -> str:
    return _PROMPTS.get(source, "Once upon a time")


def python_command() -> str:
    """The shortest name under which this interpreter runs from this folder."""
    executable = Path(sys.executable)
    if shutil.which("python") == str(executable):
        return "python"
    return os.path.relpath(executable) if executable.is_relative_to(Path.cwd()) else str(executable)
