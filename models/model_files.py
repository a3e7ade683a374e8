"""The small files of a model's directory: whoever wrote them, reading one neither hangs nor fills the memory."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muxjax.models.errors import ModelError

MAX_BYTES = 256 << 20  # ten times the largest published tokenizer's


def is_there(path: Path) -> bool:
    """Whether a directory has an entry of this name; a link that leads nowhere is one, and an error to read."""
    return os.path.lexists(path)


def check_file(path: Path, error_type: type[ModelError], *, most: int = MAX_BYTES) -> None:
    """Raises `error_type`, naming the file, unless it is one, and not larger than it can be."""
    try:
        status = path.stat()
    except FileNotFoundError:
        reason = "leads to no file; copy it again" if path.is_symlink() else "no such file"
        raise error_type(f"{path}: {reason}") from None
    except (OSError, ValueError) as error:
        raise error_type(f"{path}: cannot be read: {error}") from None
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, and a device might never end
        raise error_type(f"{path}: is not a file")
    if status.st_size > most:
        raise error_type(f"{path}: has {status.st_size} bytes; at most {most} are read")


def read_file(path: Path, error_type: type[ModelError]) -> bytes:
    """What is in a file. Raises `error_type`, naming it."""
    check_file(path, error_type)
    try:
        return path.read_bytes()
    except OSError as error:
        raise error_type(f"{path}: cannot be read: {error}") from None


def read_text(path: Path, error_type: type[ModelError]) -> str:
    """The text in a file of UTF-8. Raises `error_type`, naming it."""
    try:
        return read_file(path, error_type).decode("utf-8")
    except ValueError as error:
        raise error_type(f"{path}: is not UTF-8: {error}") from None


def read_json(path: Path, error_type: type[ModelError]) -> Mapping[str, Any]:
    """The object in a JSON file. Raises `error_type`, naming the file."""
    content = read_file(path, error_type)
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise error_type(f"{path}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise error_type(f"{path}: must hold a JSON object")
    return values
