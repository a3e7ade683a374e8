"""Words that a completion may not hold, as biases of the tokens that they are."""

from collections.abc import Sequence

from muxjax.serving.checks import shown
from muxjax.serving.endpoint import Endpoint
from muxjax.serving.errors import InvalidRequest
from muxjax.serving.validation import MAX_LOGIT_BIAS

MAX_CHARACTERS = 256


def forbid(endpoint: Endpoint, words: Sequence[str]) -> dict[int, float]:
    """The biases that forbid words of one token each, at a text's beginning and behind a space.

    A word of several tokens cannot be forbidden so: its tokens alone are harmless.

    Raises:
        InvalidRequest: a word is not one token.
    """
    tokenizer = endpoint.tokenizer
    if tokenizer is None:
        raise InvalidRequest("bad_words", f"needs text, and {endpoint.name} has no tokenizer: send logit_bias")
    biases = {}
    for word in words:
        if not 1 <= len(word) <= MAX_CHARACTERS:
            raise InvalidRequest("bad_words", f"holds {shown(word)}; each must have 1 to {MAX_CHARACTERS} characters")
        tokens = [tokenizer.encode(form, add_bos=False) for form in (word, f" {word}")]
        if len(tokens[0]) != 1:
            raise InvalidRequest(
                "bad_words",
                f"holds {shown(word)}, which is {len(tokens[0])} tokens to {endpoint.name}; only words of one token "
                "can be forbidden",
            )
        biases.update({form[0]: -MAX_LOGIT_BIAS for form in tokens if len(form) == 1})
    return biases
