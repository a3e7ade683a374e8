"""What the protocol says of models: metadata, configurations, the index."""

from collections.abc import Iterable, Mapping

from muxjax.serving.endpoint import Endpoint
from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from muxjax.serving.frontends.oip.inputs import INPUTS, OUTPUTS, Tensor
from muxjax.serving.frontends.oip.responses import VERSION
from muxjax.serving.progress import LLMState, Progress

PLATFORM = "muxjax"

_DATA_TYPES: Mapping[str, pb.DataType] = {
    "BOOL": pb.TYPE_BOOL,
    "BYTES": pb.TYPE_STRING,
    "FP32": pb.TYPE_FP32,
    "INT32": pb.TYPE_INT32,
    "UINT32": pb.TYPE_UINT32,
    "UINT64": pb.TYPE_UINT64,
}
_INDEX_STATES = {
    LLMState.LOADING: "LOADING",
    LLMState.COMPILING: "LOADING",
    LLMState.READY: "READY",
    LLMState.DRAINING: "UNLOADING",
}


def metadata(model: str) -> pb.ModelMetadataResponse:
    """Every input that the model accepts, and every output that it can give."""
    return pb.ModelMetadataResponse(
        name=model,
        versions=[VERSION],
        platform=PLATFORM,
        inputs=[_tensor_metadata(tensor) for tensor in INPUTS.values()],
        outputs=[_tensor_metadata(tensor) for tensor in OUTPUTS.values()],
    )


def config(endpoint: Endpoint) -> pb.ModelConfigResponse:
    """The model as Triton would configure it: decoupled, without batching by the client, all inputs optional."""
    configuration = pb.ModelConfig(
        name=endpoint.name,
        platform=PLATFORM,
        backend=PLATFORM,
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=1)),
        max_batch_size=0,
        input=[
            pb.ModelInput(name=tensor.name, data_type=_DATA_TYPES[tensor.datatype], dims=_dims(tensor), optional=True)
            for tensor in INPUTS.values()
        ],
        output=[
            pb.ModelOutput(name=tensor.name, data_type=_DATA_TYPES[tensor.datatype], dims=_dims(tensor))
            for tensor in OUTPUTS.values()
        ],
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=True),
    )
    configuration.parameters["max_context"].string_value = str(endpoint.max_context)
    configuration.parameters["vocab_size"].string_value = str(endpoint.vocab_size)
    return pb.ModelConfigResponse(config=configuration)


def index(models: Iterable[Progress], *, only_ready: bool) -> pb.RepositoryIndexResponse:
    """The models and their states, in Triton's words."""
    return pb.RepositoryIndexResponse(
        models=[
            pb.RepositoryIndexResponse.ModelIndex(
                name=progress.llm,
                version=VERSION,
                state=_INDEX_STATES.get(progress.state, "UNAVAILABLE"),
                reason=progress.error or "",
            )
            for progress in models
            if progress.state is LLMState.READY or not only_ready
        ]
    )


def _tensor_metadata(tensor: Tensor) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=_dims(tensor))


def _dims(tensor: Tensor) -> list[int]:
    return [-1 if tensor.is_list else 1]
