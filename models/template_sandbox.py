"""A Jinja sandbox in which a template that never ends, or fills the memory, is stopped.

Jinja's own sandbox keeps a template from the process, but bounds neither its time nor its memory. Here all that can
repeat or grow is metered: each turn of a loop and each call costs a unit of work for every part of what is repeated,
and each character or list entry that an operation makes another one. What one rendering may spend is fixed beforehand
(see template_work).
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from jinja2 import Environment, nodes, pass_environment
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from muxjax.models.special_marks import SpecialTokenMarker, added_between, between, unmarked
from muxjax.models.template_work import (
    TooMuchWork,
    paid,
    paid_copy,
    spend,
    spend_before,
    spend_before_format,
    spend_before_join,
)

_CALL = 20  # units, beside those of what is called
_MAX_EXPONENT = 64
_MAX_BITS = 4096  # of a number
_LEFT_OUT = ("lipsum", "urlize", "striptags", "wordwrap", "xmlattr", "pprint")  # for pages, slow on odd text
_UNSAFE_METHODS = frozenset({"expandtabs", "translate", "maketrans", "encode", "to_bytes"})


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
        self.filters |= {"join": _join, "sum": _sum}
        self.filters = {name: _metered_function(name, function) for name, function in self.filters.items()}
        self.filters |= {"_metered_loop": _MeteredLoop, "_metered": paid, "_metered_copy": paid_copy, "_spend": spend}
        self.globals |= {"strftime_now": _metered_function("strftime_now", _strftime_now), "namespace": _Namespace}
        for name in _LEFT_OUT:
            self.filters.pop(name, None)
            self.globals.pop(name, None)

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
        method = getattr(function, "__wrapped__", function)  # Jinja wraps `format`
        receiver = getattr(method, "__self__", None)
        if isinstance(receiver, str):
            if method.__name__ == "join" and args:
                args = ([*_MeteredLoop(args[0], 1)],)
                spend_before_join(receiver, args[0])
            spend_before(method.__name__, receiver, args, kwargs)
        return paid(super().call(context, function, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Also not what makes much text from little and no chat template needs."""
        return attr not in _UNSAFE_METHODS and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """What can make much from little is refused before it is done."""
        if operator == "**" and not (isinstance(right, int | float) and abs(right) <= _MAX_EXPONENT):
            raise TooMuchWork
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int):
                    spend(len(one) * max(other, 0))
        if operator == "%":
            spend_before_format(left, right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and result.bit_length() > _MAX_BITS:
            raise TooMuchWork
        return paid(result)


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

    def visit_List(self, node: nodes.List) -> nodes.Expr:  # noqa: N802
        return self._container(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802
        return self._container(node) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:  # noqa: N802
        return self._container(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _through("_metered_copy", node, node.lineno) if isinstance(node.arg, nodes.Slice) else node

    def _container(self, node: nodes.List | nodes.Tuple | nodes.Dict) -> nodes.Expr:
        self.generic_visit(node)
        return (
            node
            if all(isinstance(item, nodes.Const) for item in node.items)
            else _through("_metered", node, node.lineno)
        )

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


class _Namespace(Namespace):
    """Jinja's namespace, which does not show what it holds: it could hold itself, twice."""

    def __repr__(self) -> str:
        return "<namespace>"


def _metered_function(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    context = 1 if hasattr(function, "jinja_pass_arg") else 0  # what Jinja passes before the value

    @functools.wraps(function)  # with what Jinja has noted on it
    def metered(*args: Any, **kwargs: Any) -> Any:
        spend_before(name, args[context] if len(args) > context else None, args[context + 1 :], kwargs)
        return paid(function(*args, **kwargs))

    return metered


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    items = [*_MeteredLoop(_attributes(environment, value, attribute), 1)]
    spend_before_join(d, items)
    return str(d).join(map(str, items))


@pass_environment
def _sum(environment: Environment, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    total = start
    for item in _attributes(environment, iterable, attribute):
        total = paid(total + item)
    return total


def _attributes(environment: Environment, items: Iterable[Any], attribute: str | int | None) -> Iterable[Any]:
    return items if attribute is None else map(make_attrgetter(environment, attribute), items)


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
