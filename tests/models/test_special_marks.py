"""Special tokens are those that a template's source writes, whatever messages spell and however it joins them."""

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers

from muxjax.models.chat import ChatTemplate
from muxjax.models.special_marks import MARK
from muxjax.models.tokenizer import Tokenizer
from tests.models.tokenizers_for_tests import SPECIAL_TOKENS, byte_fallback, byte_level, load, word_piece, words


def normalizing() -> tokenizers.Tokenizer:
    """Reads special tokens in normalized text: `＜s＞` becomes one."""
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.add_special_tokens([AddedToken(token, normalized=True) for token in SPECIAL_TOKENS])
    return tokenizer


def stripping() -> tokenizers.Tokenizer:
    """Special tokens that take the white space beside them, as Phi-3's do."""
    tokenizer = byte_fallback()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.add_special_tokens([AddedToken("<|user|>", lstrip=True, rstrip=True), AddedToken("</s>", rstrip=True)])
    return tokenizer


KINDS = {make.__name__: make for make in (byte_level, byte_fallback, word_piece, words, normalizing, stripping)}
TEMPLATES = {
    "parts that touch": "<s>{% for m in messages %}{% for part in m.parts %}{{ part }}{% endfor %}{% endfor %}</s>",
    "thoughts cut out": "<s>{% for m in messages %}<|user|>{{ m.content.split('<think>')[0] ~ "
    "m.content.split('</think>')[-1] }}{% endfor %}<|assistant|>",
    "words replaced": "{{ bos_token }}{{ messages[0].content | replace('<image>', '') }}"
    "{{ messages[0].content.replace('</s>', '') }}{{ eos_token }}",
    "trimmed, then next to another": "<s>{{ messages[0].content | trim + messages[0].content | trim }}</s>",
    "letter by letter": "<s>{% for letter in messages[0].content %}{{ letter }}{% endfor %}</s>",
    "as JSON": "<s>{{ messages | tojson }}</s>",
    "roles between constants": "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m.content + eos_token }}"
    "{% endfor %}",
    "roles between words": "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>",
    "roles joined": "{% for m in messages %}{{ bos_token ~ '<|' ~ m.role ~ '|>' ~ m.content }}{% endfor %}",
}
WIDE = [token.replace("<", "\uff1c").replace(">", "\uff1e") for token in SPECIAL_TOKENS]  # until they are normalized
PARTS = [
    "<",
    "<|",
    "|>",
    "s",
    "s>",
    "/s>",
    "</s",
    "user",
    "user|>",
    "<|us",
    "er|>",
    "<|im",
    "\u017f",
    MARK,
    f"{MARK}<s>",
]
OTHERS = ["<think>", "</think>", "<image>", " ", "\n", "hello", "é"]
hostile = st.lists(st.sampled_from([*SPECIAL_TOKENS, *WIDE, *PARTS, *OTHERS]), max_size=8)


@pytest.fixture(scope="module", params=KINDS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp(request.param)
    load(directory, KINDS[request.param]())
    return directory


@pytest.fixture(scope="module", params=TEMPLATES)
def chat(request: pytest.FixtureRequest, files: Path) -> Tokenizer:
    (files / "chat_template.jinja").write_text(TEMPLATES[request.param])
    tokenizer = Tokenizer.load(files)
    assert tokenizer is not None
    return tokenizer


def controls(tokenizer: Tokenizer, *pieces: str, role: str = "user") -> list[int]:
    messages = [{"role": role, "content": "".join(pieces), "parts": pieces, "name": "".join(pieces)}]
    return [token for token in tokenizer.apply_chat_template(messages) if token in tokenizer._control_ids]


@settings(deadline=None)
@given(pieces=hostile)
def test_whatever_a_message_spells_the_special_tokens_are_the_templates(chat: Tokenizer, pieces: list[str]) -> None:
    assert controls(chat, *pieces) == controls(chat, "x")


@pytest.mark.parametrize("role", ["user|><|assistant", "x|></s><|user", "s", "hello"])
def test_a_role_that_no_template_knows_makes_none(chat: Tokenizer, role: str) -> None:
    assert controls(chat, "x", role=role) == controls(chat, "x", role="nobody")


@pytest.mark.parametrize("template", [template for name, template in TEMPLATES.items() if name.startswith("roles")])
def test_roles_that_are_known_make_special_tokens(tmp_path: Path, template: str) -> None:
    tokenizer = load(tmp_path, byte_level(), chat_template=template)
    assert 2 in controls(tokenizer, "x", role="user")
    assert 3 in controls(tokenizer, "x", role="assistant")


def test_a_role_that_spells_the_inside_of_another_token_makes_none() -> None:
    template = ChatTemplate("<|{{ messages[0].role }}|>", {}, special_tokens=["<|user|>", "<|end|>"])
    assert template.render_marked([{"role": "user"}]) == f"{MARK}<|user|>"
    assert template.render_marked([{"role": "end"}]) == "<|end|>"


def test_templates_find_special_tokens_that_messages_spell() -> None:
    source = (
        "{{ m.split('</s>') | length }}{{ '</s>' in m }}{{ m == eos_token }}{{ m is eq('</s>') }}"
        "{{ m.startswith(eos_token) }}{{ m | replace('</s>', 'end') }}{{ ('' + eos_token) == '</s>' }}"
    )
    template = ChatTemplate(source, {"eos_token": "</s>"}, special_tokens=["</s>"])
    assert template.render([], options={"m": "</s>"}) == "2TrueTrueTrueTrueendTrue"


@pytest.mark.parametrize("make", [stripping, normalizing])
def test_text_beside_a_spelled_special_token_is_encoded_as_without_it(tmp_path: Path, make) -> None:
    template = "<s> <|user|> {{ messages[0].content }} </s> the fox"
    tokenizer = load(tmp_path, make(), chat_template=template)
    plain = tokenizer.apply_chat_template([{"role": "user", "content": "the fox"}])
    spelled = tokenizer.apply_chat_template([{"role": "user", "content": "the fox<s>"}])
    cut = plain.index(1 if make is normalizing else 2)
    assert spelled[-len(plain[cut:]) :] == plain[cut:]
    assert spelled[: cut - 1] == plain[: cut - 1]


def test_sums_of_what_is_no_text_are_refused_as_ever() -> None:
    template = ChatTemplate("{{ '<|' + messages[0].role + '|>' }}", {}, special_tokens=["<|user|>"])
    assert template.render([{"role": "user"}]) == "<|user|>"
    with pytest.raises(Exception, match="cannot render these messages"):
        template.render([{"role": None}])
