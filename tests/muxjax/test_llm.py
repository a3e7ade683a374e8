"""The offline interface: several LLMs in one process."""

import pytest

from muxjax import LLM, SamplingParams
from muxjax.config import ConfigurationError
from muxjax.llm import LoadError
from muxjax.serving.errors import InvalidRequest, UnknownModel
from muxjax.serving.request import FinishReason
from tests.serving.unit_under_test import write_configs


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    sources = write_configs(tmp_path_factory.mktemp("configs"))
    compile_cache = {"cache": False}
    with LLM(
        {"a": {"source": sources["small"], "rate": 4.0}, "b": sources["odd"]},
        pool={"blocks": 2000},
        compile=compile_cache,
    ) as llm:
        yield llm


def test_completes_token_id_prompts_of_any_llm(llm):
    sampling = SamplingParams(temperature=0, max_tokens=5)
    for name in ("a", "b"):
        completions = llm.generate(name, prompt_token_ids=[[1, 2, 3], [4]], sampling=sampling)
        assert [(c.prompt, c.index, len(c.token_ids)) for c in completions] == [(0, 0, 5), (1, 0, 5)]
        assert all(c.finish_reason is FinishReason.LENGTH for c in completions)


def test_prompts_together_complete_as_they_do_alone(llm):
    sampling = SamplingParams(temperature=0.7, seed=3, max_tokens=12)
    prompts = [[7] * length for length in (1, 5, 70, 300)]
    together = llm.generate("a", prompt_token_ids=prompts, sampling=sampling)
    alone = [llm.generate("a", prompt_token_ids=[prompt], sampling=sampling)[0] for prompt in prompts]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


def test_n_completions_of_a_prompt_differ_and_are_reproducible(llm):
    sampling = SamplingParams(n=3, seed=1, max_tokens=8, logprobs=2)
    first, again = (llm.generate("b", prompt_token_ids=[[1, 2]], sampling=sampling) for _ in range(2))
    assert [c.index for c in first] == [0, 1, 2]
    assert len({c.token_ids for c in first}) == 3
    assert [c.token_ids for c in first] == [c.token_ids for c in again]
    assert all(len(entry.top_ids) == 2 for c in first for entry in c.logprobs)


def test_refuses_what_the_server_refuses(llm):
    with pytest.raises(UnknownModel, match="'c'"):
        llm.generate("c", prompt_token_ids=[[1]])
    with pytest.raises(InvalidRequest, match="no tokenizer"):
        llm.generate("a", prompts=["text"])
    with pytest.raises(InvalidRequest, match="temperature"):
        llm.generate("a", prompt_token_ids=[[1]], sampling=SamplingParams(temperature=float("nan")))


def test_says_which_llm_cannot_be_loaded_and_why(tmp_path):
    with pytest.raises(ConfigurationError, match=r"llms\.a\.source: .*nowhere.*\n.*rate"):
        LLM({"a": {"source": str(tmp_path / "nowhere"), "rate": -1.0}})
    write_configs(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        LLM({"a": str(tmp_path)})
    (tmp_path / "config.json").write_bytes((tmp_path / "small.json").read_bytes())
    with pytest.raises(LoadError, match=r"a: .*safetensors"):
        LLM({"a": str(tmp_path)}, pool={"blocks": 100}, compile={"cache": False})
