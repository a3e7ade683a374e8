"""Rates and lengths from traces in several forms, and what is said of bad lines."""

import json
from pathlib import Path

import pytest

from muxjax.placement.errors import PlacementError
from muxjax.placement.trace import TraceLoad, read_loads


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_json_requests_are_counted_by_model(tmp_path: Path) -> None:
    rows = [(0, "a", 10, 1), (1, "b", 20, 2), (2, "a", 30, 3), (4, "a", 20, 2)]
    requests = [dict(zip(("t", "model", "prompt_len", "output_len"), row, strict=True)) for row in rows]
    path = write(tmp_path, "trace.json", json.dumps({"requests": requests}))
    assert read_loads(path) == {"a": TraceLoad(0.75, 20, 2), "b": TraceLoad(0.25, 20, 2)}


def test_azures_csv_has_dates_and_no_models(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    text += "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.6805900,396,56\n"
    assert read_loads(write(tmp_path, "azure.csv", text)) == {"": TraceLoad(0.5, 385, 50)}


def test_mooncakes_lines_are_in_milliseconds(tmp_path: Path) -> None:
    lines = [{"timestamp": time, "input_length": 8, "output_length": 4, "hash_ids": []} for time in (0, 2000)]
    path = write(tmp_path, "mooncake.jsonl", "\n".join(map(json.dumps, lines)))
    assert read_loads(path) == {"": TraceLoad(1.0, 8, 4)}


def test_bad_lines_are_named(tmp_path: Path) -> None:
    text = "t,model,prompt_len,output_len\n0,a,1,1\nsoon,a,1,1\n2,a,-5,1\n3,a,1\n"
    path = write(tmp_path, "trace.csv", text)
    with pytest.raises(PlacementError) as refused:
        read_loads(path)
    assert refused.value.complaints == (
        f"{path}:3: needs a time from 0 in t or time or timestamp or TIMESTAMP, not 'soon'",
        f"{path}:4: needs a length from 0 in prompt_len or input_length or ContextTokens, not '-5'",
        f"{path}:5: needs a length from 0 in output_len or output_length or GeneratedTokens, not None",
    )


def test_lines_that_are_no_json_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "trace.jsonl", '{"t": 0, "prompt_len": 1, "output_len": 1}\n{"t": 1\n')
    with pytest.raises(PlacementError, match=r"trace\.jsonl:2: needs a time"):
        read_loads(path)


@pytest.mark.parametrize(("name", "text"), [("a.json", "[]"), ("a.csv", "t,prompt_len\n"), ("a.json", "{")])
def test_what_is_no_trace_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(PlacementError):
        read_loads(write(tmp_path, name, text))
