"""A Jinja sandbox in which a template that never ends, or fills the memory, is stopped.

Jinja's own sandbox keeps a template from the process, but bounds neither its time nor its memory. Here all that can
repeat or grow is metered: each turn of a loop and each call costs a unit of work for every part of what is repeated,
and each character or list entry that an operation makes another one. What one rendering may spend is fixed beforehand.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from muxjax.models.special_marks import SpecialTokenMarker, added_between, between, unmarked

_CALL = 20  # units, beside those of what is called
_MAX_EXPONENT = 64
_MAX_BITS = 4096  # of a number


class TooMuchWork(Exception):
    """A template did more than it may."""


_left: ContextVar[list[int]] = ContextVar("left")


@contextmanager
def allowed_work(units: int) -> Iterator[None]:
    """What is rendered inside may do so much work, and raises TooMuchWork when it wants to do more."""
    token = _left.set([units])
    try:
        yield
    finally:
        _left.reset(token)


def spend(units: int) -> None:
    """Do some of the work that the rendering may do; outside of one, as when constants are folded, it is free."""
    left = _left.get(None)
    if left is not None:
        left[0] -= units
        if left[0] < 0:
            raise TooMuchWork


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """The environment that Hugging Face's chat templates are written for; special tokens that they write are marked."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, special_tokens: SpecialTokenMarker) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock])
        self._special_tokens = special_tokens
        self.optimized = False  # folding would run a template's operations before its work is bounded
        self.filters["tojson"] = _to_json
        self.filters |= {"_marked": special_tokens.marked, "_unmarked": unmarked}
        self.filters |= {"_between": between, "_added_between": added_between}
        self.filters = {name: _metered_function(function) for name, function in self.filters.items()}
        self.filters |= {"_metered_loop": _MeteredLoop, "_metered": _metered, "_spend": spend}
        self.globals["strftime_now"] = _strftime_now

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        self._special_tokens.mark(tree)
        metered: nodes.Template = _MeterInserter().visit(tree)
        return metered

    def call(self, context: Context, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Every call that a template makes, of its own macros too."""
        spend(_CALL)
        if isinstance(function, LoopContext) and args:  # a recursive loop
            args = (_MeteredLoop(args[0]), *args[1:])
        return _metered(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """What can make much from little is refused before it is done."""
        if operator == "**" and not (isinstance(right, int | float) and abs(right) <= _MAX_EXPONENT):
            raise TooMuchWork
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int):
                    spend(len(one) * max(other, 0))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and result.bit_length() > _MAX_BITS:
            raise TooMuchWork
        return _metered(result)


class _MeterInserter(NodeTransformer):
    """Puts a meter on loops, and on text that is put together."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802  (as Jinja calls it)
        cost = nodes.Const(_num_parts(node))
        self.generic_visit(node)
        node.iter = _through("_metered_loop", node.iter, node.lineno, cost)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:  # noqa: N802
        cost = nodes.Const(_num_parts(node))
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_through("_spend", cost, node.lineno), lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _through("_metered", node, node.lineno)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.AssignBlock:  # noqa: N802
        self.generic_visit(node)
        node.filter = _through("_metered", node.filter, node.lineno)
        return node


def _through(name: str, node: Any, line: int, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=line)


def _num_parts(node: nodes.Node) -> int:
    return 1 + sum(1 for _ in node.find_all(nodes.Node))


class _MeteredLoop:
    """An iterable whose every item costs as much as the loop's body has parts."""

    def __init__(self, iterable: Iterable[Any], cost: int = _CALL) -> None:
        self._iterable = iterable
        self._cost = cost

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            spend(self._cost)
            yield item

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # TypeError is what Jinja expects then


def _metered(value: Any) -> Any:
    """The value, paid for by its size."""
    if isinstance(value, str | list | tuple):
        spend(len(value))
    return value


def _metered_function(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # with what Jinja has noted on it
    def metered(*args: Any, **kwargs: Any) -> Any:
        return _metered(function(*args, **kwargs))

    return metered


class _GenerationBlock(Extension):
    """{% generation %} marks what the assistant wrote, for training: here it is as if it were not there."""

    tags = {"generation"}  # noqa: RUF012  (as Jinja declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _strftime_now(format: str) -> str:  # noqa: A002  (templates may name the argument)
    return datetime.now().strftime(format)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Jinja's own tojson escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)
