"""Which special tokens of a rendered conversation its template wrote, and which ones a user only spelled.

What a template's source spells is marked before the template is compiled: a character that no text holds goes in front
of every special token. Marks are carried through the rendering, and words of a message have none. Where a template only
searches for a token (in comparisons, `split` and the like), it finds what messages spell, so nothing is marked there.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

MARK = "\ufdd0"  # Unicode's noncharacters are for use inside of programs
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SEARCHES = frozenset(
    {"split", "rsplit", "partition", "rpartition", "startswith", "endswith", "find", "rfind", "index", "rindex"}
    | {"count", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix"}
)
_ROLES = frozenset(
    {"system", "user", "assistant", "tool", "developer", "function", "observation", "ipython", "tool_response"}
)


def special_token_pattern(special_tokens: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the special tokens, the longest one where several start; nothing if there are none."""
    longest_first = sorted(filter(None, special_tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def unmarked[T](value: T) -> T | str:
    """A text itself, and whatever is none."""
    return value.replace(MARK, "") if isinstance(value, str) else value


def split_marked(text: str, pattern: re.Pattern[str]) -> list[str]:
    """The pieces of a marked text: plain ones at even places, the special tokens between them at odd ones."""
    pieces = re.split(f"{MARK}({pattern.pattern})", text)
    return [unmarked(piece) for piece in pieces]


def without_marks(value: Any) -> Any:
    """A value of JSON in which the mark, if there is one, is an unknown character."""
    if isinstance(value, str):
        return value.replace(MARK, _REPLACEMENT)
    if isinstance(value, Mapping):
        return {without_marks(key): without_marks(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [without_marks(item) for item in value]
    return value


class SpecialTokenMarker(NodeTransformer):
    """Marks the special tokens that a parsed template writes; `variables`, such as bos_token, may hold some."""

    def __init__(self, special_tokens: Iterable[str], variables: Iterable[str]) -> None:
        self._special = frozenset(special_tokens)
        self._pattern = special_token_pattern(self._special)
        self._variables = frozenset(variables)
        self._around_roles: list[tuple[str, str, str, str]] = []

    def mark(self, tree: nodes.Template) -> None:
        """Change a template's tree."""
        roles = _ROLES | {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
        parted = [(token, *token.partition(role)) for role in roles if role for token in self._special if role in token]
        self._around_roles = [part for part in parted if part[1] and part[3]]
        self.visit(tree)

    def marked(self, value: Any) -> Any:
        """The text with a mark before each special token; the filter that variables go through."""
        return self._pattern.sub(rf"{MARK}\g<0>", value) if isinstance(value, str) else value

    def visit_Const(self, node: nodes.Const) -> nodes.Const:  # noqa: N802  (as Jinja calls it)
        node.value = self.marked(node.value)
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.TemplateData:  # noqa: N802
        node.data = self.marked(node.data)
        return node

    def visit_Name(self, node: nodes.Name) -> nodes.Expr:  # noqa: N802
        if node.ctx != "load" or node.name not in self._variables:
            return node
        return _filtered(node, "_marked")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        operands = [node.expr, *(operand.expr for operand in node.ops)]
        if any(map(self._may_be_special, operands)):
            node.expr = _filtered(node.expr, "_unmarked")
            for operand in node.ops:
                operand.expr = _filtered(operand.expr, "_unmarked")
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Test:  # noqa: N802
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:  # noqa: N802
        node.node = self.visit(node.node)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:  # noqa: N802
        node.value = self.visit(node.value)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Call:  # noqa: N802
        method = node.node.attr if isinstance(node.node, nodes.Getattr) else None
        return self._visit_but_searched(node, all_arguments=method in _SEARCHES, first=method == "replace")

    def visit_Filter(self, node: nodes.Filter) -> nodes.Filter:  # noqa: N802
        return self._visit_but_searched(node, all_arguments=False, first=node.name == "replace")

    def visit_Output(self, node: nodes.Output) -> nodes.Output:  # noqa: N802
        node.nodes = self._written_together(node.nodes, "_between")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Concat:  # noqa: N802
        node.nodes = self._written_together(node.nodes, "_between")
        return node

    def visit_Add(self, node: nodes.Add) -> nodes.Expr:  # noqa: N802
        terms: list[nodes.Expr] = [node.right]
        left = node.left
        while isinstance(left, nodes.Add):
            terms.append(left.right)
            left = left.left
        result, *others = self._written_together([left, *reversed(terms)], "_added_between")
        for other in others:
            result = nodes.Add(result, other, lineno=node.lineno)
        return result

    def _may_be_special(self, node: nodes.Expr) -> bool:
        return bool(self._pattern.search(_constant(node))) or getattr(node, "name", None) in self._variables

    def _visit_but_searched[T: (nodes.Call, nodes.Filter)](self, node: T, *, all_arguments: bool, first: bool) -> T:
        searched: list[nodes.Expr] = node.args if all_arguments else node.args[:1] if first else []
        if node.node is not None:
            node.node = self.visit(node.node)
        node.args = [*searched, *(self.visit(argument) for argument in node.args[len(searched) :])]
        for keyword in node.kwargs:
            keyword.value = self.visit(keyword.value)
        return node

    def _written_together(self, parts: Sequence[nodes.Expr], name: str) -> list[nodes.Expr]:
        """The parts, visited; where a role between two constants makes special tokens, the three are one part."""
        done: list[nodes.Expr] = []
        rest = list(parts)
        while rest:
            before, after = (_constant(part) for part in (rest[0], rest[-1] if len(rest) < 3 else rest[2]))
            tokens = self._spelled_around(before, after)
            if len(rest) > 2 and tokens and not _constant(rest[1]):
                role = rest[1]
                around = [nodes.Const(self.marked(text)) for text in (before, after)]
                arguments = [*around, nodes.Const(tokens)]
                done.append(_filtered(self.visit(role), name, *arguments))
                del rest[:3]
            else:
                done.append(self.visit(rest.pop(0)))
        return done

    def _spelled_around(self, before: str, after: str) -> dict[str, str]:
        """What the two texts become with each role between them that makes a special token, by the role."""
        texts: dict[str, str] = {}
        for token, head, role, tail in self._around_roles if before and after else ():
            if before.endswith(head) and after.startswith(tail):
                start, end = before.removesuffix(head), after.removeprefix(tail)
                texts[role] = f"{self.marked(start)}{MARK}{token}{self.marked(end)}"
        return texts


def between(role: Any, before: str, after: str, tokens: Mapping[str, str]) -> str:
    """The filter for what is written around a role; `tokens` has the texts with the roles that make special tokens."""
    text = str(role)
    return tokens.get(text) or f"{before}{text}{after}"


def added_between(role: Any, before: str, after: str, tokens: Mapping[str, str]) -> Any:
    """The same where they are added up, which only text can be."""
    return between(role, before, after, tokens) if isinstance(role, str) else before + role + after


def _filtered(node: nodes.Expr, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


def _constant(node: nodes.Expr) -> str:
    """A constant text; "" where there is none."""
    value = node.data if isinstance(node, nodes.TemplateData) else getattr(node, "value", None)
    return value if isinstance(node, nodes.TemplateData | nodes.Const) and isinstance(value, str) else ""
