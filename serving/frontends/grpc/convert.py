"""Between the protocol's messages and the words of `muxjax.serving`."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from muxjax.serving.checks import shown
from muxjax.serving.endpoint import Chat, Prompt
from muxjax.serving.errors import InvalidRequest
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.template_options import FIELD, template_options
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.request import FinishReason, Output, TokenLogprobs
from muxjax.serving.spec import SLO
from muxjax.serving.statistics import Percentiles
from muxjax.serving.unit import LLMStatus, UnitStatus

_OPTIONS = msgspec.json.Decoder(dict[str, Any])
_FINISH_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.ABORT: pb.FINISH_REASON_ABORT,
}
_STATES = {
    LLMState.LOADING: pb.MODEL_STATE_LOADING,
    LLMState.COMPILING: pb.MODEL_STATE_COMPILING,
    LLMState.READY: pb.MODEL_STATE_READY,
    LLMState.FAILED: pb.MODEL_STATE_FAILED,
    LLMState.STALLED: pb.MODEL_STATE_STALLED,
    LLMState.DRAINING: pb.MODEL_STATE_DRAINING,
}
# Of a model's status, under the same names in the protocol.
_FIGURES = (
    "waiting",
    "running",
    "blocks_used",
    "blocks_quota",
    "preemptions",
    "prompt_tokens",
    "generated_tokens",
    "blocks_entitled",
    "errors",
    "prefill_share",
    "decode_share",
    "tokens_per_second",
    "programs_compiled",
    "programs_needed",
)


def prompt(request: pb.GenerateRequest) -> Prompt:
    """The prompt, in whichever form it was sent. Raises InvalidRequest."""
    match request.WhichOneof("prompt"):
        case "text":
            return request.text
        case "token_ids":
            return request.token_ids.ids
        case "chat":
            return _chat(request.chat)
        case _:
            raise InvalidRequest("prompt", "is missing: send text, token_ids or chat")


def _chat(chat: pb.Chat) -> Chat:
    try:
        options = _OPTIONS.decode(chat.chat_template_kwargs) if chat.chat_template_kwargs else None
    except (msgspec.MsgspecError, RecursionError):
        raise InvalidRequest(FIELD, f"is no JSON object: {shown(chat.chat_template_kwargs)}") from None
    messages = [{"role": message.role, "content": message.content} for message in chat.messages]
    return Chat(messages, template_options=template_options(options))


def sampling(params: pb.SamplingParams) -> Mapping[str, object]:
    """The fields that the client set; lists and maps count as set when they hold something."""
    fields = {descriptor.name: value for descriptor, value in params.ListFields()}
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return value if isinstance(value, str | int | float) else list(value)  # type: ignore[call-overload]


def response(output: Output) -> pb.GenerateResponse:
    """The message for what one completion gained."""
    return pb.GenerateResponse(
        index=output.index,
        text=output.text,
        token_ids=output.token_ids,
        logprobs=[_logprobs(entry) for entry in output.logprobs],
        finish_reason=_FINISH_REASONS[output.finish_reason] if output.finish_reason else None,
    )


def _logprobs(entry: TokenLogprobs) -> pb.TokenLogprobs:
    top = zip(entry.top_ids, entry.top_logprobs, strict=True)
    return pb.TokenLogprobs(
        logprob=entry.chosen, top=[pb.TopToken(token_id=token, logprob=logprob) for token, logprob in top]
    )


def model(progress: Progress) -> pb.Model:
    """One entry of the list of models."""
    message = pb.Model(name=progress.llm, state=_STATES[progress.state], error=progress.error or "")
    if progress.endpoint is not None:
        message.max_context = progress.endpoint.max_context
        message.vocab_size = progress.endpoint.vocab_size
        message.has_tokenizer = progress.endpoint.tokenizer is not None
    return message


def status(unit: UnitStatus, models: Sequence[Progress], uptime: float) -> pb.GetStatusResponse:
    """The unit's figures; a model that the unit does not know yet shows its state alone."""
    figures = {llm.name: llm for llm in unit.llms}
    return pb.GetStatusResponse(
        models=[_model_status(progress, figures.get(progress.llm)) for progress in models],
        blocks_total=unit.blocks_total,
        blocks_free=unit.blocks_free,
        steps=unit.steps,
        fairness_gap=unit.fairness_gap,
        uptime_seconds=uptime,
        busy=unit.busy,
        version=version("muxjax"),
    )


def unit_status(message: pb.GetStatusResponse) -> UnitStatus:
    """What `status` made the message of, for clients that show it."""
    return UnitStatus(
        llms=tuple(_llm_status(model) for model in message.models),
        blocks_total=message.blocks_total,
        blocks_free=message.blocks_free,
        steps=message.steps,
        fairness_gap=message.fairness_gap,
        busy=message.busy,
    )


def _llm_status(model: pb.ModelStatus) -> LLMStatus:
    return LLMStatus(
        name=model.name,
        state=pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower(),
        error=model.error or None,
        ttft=_percentiles(model.ttft) if model.HasField("ttft") else None,
        tpot=_percentiles(model.tpot) if model.HasField("tpot") else None,
        slo=_slo(model.slo) if model.HasField("slo") else None,
        slo_attainment=model.slo_attainment if model.HasField("slo_attainment") else None,
        **{name: getattr(model, name) for name in _FIGURES},
    )


def _percentiles(message: pb.Percentiles) -> Percentiles:
    return Percentiles(message.p50, message.p90, message.p99)


def _slo(message: pb.SLO) -> SLO:
    return SLO(
        ttft=message.ttft if message.HasField("ttft") else None,
        tpot=message.tpot if message.HasField("tpot") else None,
    )


def _model_status(progress: Progress, llm: LLMStatus | None) -> pb.ModelStatus:
    message = pb.ModelStatus(name=progress.llm, state=_STATES[progress.state], error=progress.error or "")
    if llm is None:
        return message
    for name in _FIGURES:
        setattr(message, name, getattr(llm, name))
    for latencies, figures in ((message.ttft, llm.ttft), (message.tpot, llm.tpot)):
        if figures is not None:
            latencies.MergeFrom(pb.Percentiles(p50=figures.p50, p90=figures.p90, p99=figures.p99))
    if llm.slo is not None:
        message.slo.MergeFrom(pb.SLO(ttft=llm.slo.ttft, tpot=llm.slo.tpot))
    if llm.slo_attainment is not None:
        message.slo_attainment = llm.slo_attainment
    return message
