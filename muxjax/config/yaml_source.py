"""A YAML text that knows on which line each of its fields stands."""

from collections.abc import Iterator

import yaml

from muxjax.config.problems import ConfigurationError, Path, Problem


class YamlSource:
    """A parsed file.

    Attributes:
        name: what problems call the file.
        data: the values.
        problems: keys that appear twice.
    """

    def __init__(self, text: str, name: str) -> None:
        """Parse. Raises ConfigurationError where the text is not YAML."""
        self.name = name
        self._root, self.data = self._parse(text)
        self.problems = [] if self._root is None else list(_find_duplicates(self._root))

    def line(self, path: Path) -> int | None:
        """The line of a field, or of the nearest thing around it that is in the file; None for an empty file."""
        node, line = self._root, None
        if node is not None:
            line = node.start_mark.line + 1
        for step in path:
            entry = _entry(node, step)
            if entry is None:
                break
            line, node = entry
        return line

    def path(self, dotted: str) -> Path:
        """The path that a dotted name such as llms.llama-3.1.source stands for; keys may hold dots themselves."""
        path: list[str | int] = []
        node, rest = self._root, dotted
        while isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if rest == key.value or rest.startswith(f"{key.value}."):
                    path.append(key.value)
                    node, rest = value, rest[len(key.value) + 1 :]
                    break
            else:
                break
        return (*path, *rest.split(".")) if rest else tuple(path)

    def _parse(self, text: str) -> tuple[yaml.Node | None, object]:
        try:
            loader = yaml.SafeLoader(text)
            root = loader.get_single_node()
            return root, None if root is None else loader.construct_document(root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else None
            reason = ", ".join(part for part in (error.context, error.problem) if part)
            raise ConfigurationError(self.name, [Problem((), f"this is not YAML: {reason}", line)]) from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(self.name, [Problem((), f"this is not YAML: {reason}", None)]) from None


def _find_duplicates(root: yaml.Node) -> Iterator[Problem]:
    seen: set[int] = set()  # anchors make nodes meet again, even for ever
    todo: list[tuple[Path, yaml.Node]] = [((), root)]
    while todo:
        path, node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield from _duplicates(path, node)
            todo += [((*path, key.value), value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            todo += [((*path, index), item) for index, item in enumerate(node.value)]


def _duplicates(path: Path, node: yaml.MappingNode) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.value in first:
            message = f"is here a second time (the first is in line {first[key.value]}): delete one of them"
            yield Problem((*path, key.value), message, line)
        first.setdefault(key.value, line)


def _entry(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    """Line and node of a mapping's value (of equal keys the last one counts) or a sequence's item."""
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):
            if key.value == str(step):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line + 1, node.value[step]
    return None
