"""The fields of SentencePiece's model files that muxjax reads and changes; all others are kept as they are.

SentencePiece's own Python module of its messages works with the newest protobuf only.
"""

from enum import IntEnum
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto


class PieceType(IntEnum):
    """`ModelProto.SentencePiece.Type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3  # never found in a text
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="muxjax/sentencepiece.proto", package="muxjax", syntax="proto2")
    piece, normalizer, model = (
        file.message_type.add(name=name) for name in ("SentencePiece", "NormalizerSpec", "ModelProto")
    )
    optional, repeated = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
    piece.field.add(name="piece", number=1, label=optional, type=_Field.TYPE_STRING)
    piece.field.add(name="type", number=3, label=optional, type=_Field.TYPE_INT32, default_value="1")
    normalizer.field.add(name="add_dummy_prefix", number=3, label=optional, type=_Field.TYPE_BOOL, default_value="true")
    message = _Field.TYPE_MESSAGE
    model.field.add(name="pieces", number=1, label=repeated, type=message, type_name=".muxjax.SentencePiece")
    model.field.add(name="normalizer_spec", number=3, label=optional, type=message, type_name=".muxjax.NormalizerSpec")
    return file


def _model_class() -> Any:
    pool = descriptor_pool.DescriptorPool()  # of its own: the messages are nobody else's
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("muxjax.ModelProto"))


ModelProto = _model_class()
