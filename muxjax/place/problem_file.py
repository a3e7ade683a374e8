"""From the file to the problem that the searches take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from muxjax.config.load import checked, read_source
from muxjax.config.problems import ConfigurationError, Problem
from muxjax.config.yaml_source import YamlSource
from muxjax.place.schema import ModelSection, PlaceFile
from muxjax.placement import problem
from muxjax.placement.errors import PlacementError
from muxjax.placement.gpus import Gpu
from muxjax.placement.trace import TraceLoad, read_loads


@dataclass(frozen=True)
class LoadedProblem:
    """A problem, and where it came from.

    Attributes:
        problem: the cluster and its LLMs.
        gpu: figures of the GPUs.
        source: the file's text, for pointing at its lines.
    """

    problem: problem.Problem
    gpu: Gpu
    source: YamlSource

    def error(self, refused: PlacementError) -> ConfigurationError:
        """Complaints such as "models.3: chat does not fit", found later, with their lines."""
        return _with_lines(refused, self.source)


def load_problem(path: Path) -> LoadedProblem:
    """Read a file. Raises ConfigurationError with everything that is wrong."""
    source = read_source(path)
    folder = path.absolute().parent
    found = [*_missing_rates(source), *_names_given_twice(source)]
    try:
        file = checked(source, PlaceFile, {"folder": folder})
    except ConfigurationError as error:
        raise ConfigurationError(source.name, [*error.problems, *found]) from error
    if found:
        raise ConfigurationError(source.name, found)
    gpu = file.cluster.gpu_figures()
    try:
        loads = {} if file.rates is None else read_loads(file.rates.trace)
    except PlacementError as error:
        raise _with_lines(error, source) from error
    _check_rates(file, loads, source)
    if file.rates is not None and file.rates.total is not None:
        given = [loads[model.name].rate for model in file.models if model.rate is None]
        loads = {
            name: TraceLoad(load.rate * file.rates.total / sum(given or [1]), load.prompt_len, load.output_len)
            for name, load in loads.items()
        }
    cluster = problem.Cluster(file.cluster.nnodes, file.cluster.ngpus_per_node, gpu.memory_gb)
    llms = tuple(_llm(model, file, loads.get(model.name), folder) for model in file.models)
    return LoadedProblem(problem.Problem(cluster, llms), gpu, source)


def _entries(source: YamlSource) -> list[tuple[int, Mapping[str, object]]]:
    """The models as they are in the file, with their places; the schema says what else is wrong with them."""
    models = source.data.get("models") if isinstance(source.data, dict) else None
    return [
        (index, model)
        for index, model in enumerate(models if isinstance(models, list) else ())
        if isinstance(model, dict)
    ]


def _missing_rates(source: YamlSource) -> Iterator[Problem]:
    """Models without a rate where no trace has any either."""
    if isinstance(source.data, dict) and source.data.get("rates") is not None:
        return
    for index, model in _entries(source):
        if model.get("rate") is None:
            path = ("models", index, "rate")
            yield Problem(path, "is missing: add it, or a trace in rates", source.line(path))


def _names_given_twice(source: YamlSource) -> Iterator[Problem]:
    seen: dict[object, int] = {}
    for index, model in _entries(source):
        name = model.get("name")
        if isinstance(name, str) and seen.setdefault(name, index) != index:
            path = ("models", index, "name")
            yield Problem(path, f"models.{seen[name]} has the name {name!r} too: rename one of them", source.line(path))


def _check_rates(file: PlaceFile, loads: Mapping[str, TraceLoad], source: YamlSource) -> None:
    found = []
    for index, model in enumerate(file.models):
        if model.rate is None and model.name not in loads:
            names = ", ".join(name for name in loads if name)
            where = f"; its models are {names}" if names else ", which names no models"
            words = f"is missing: add it, for the trace has no {model.name!r}{where}"
            path = ("models", index, "rate")
            found.append(Problem(path, words, source.line(path)))
    if found:
        raise ConfigurationError(source.name, found)


def _llm(model: ModelSection, file: PlaceFile, load: TraceLoad | None, folder: Path) -> problem.LLM:
    traced = load or TraceLoad(0, 0, 0)
    return problem.LLM(
        name=model.name,
        shape=model.shape(folder),
        rate=model.rate or traced.rate,
        prompt_len=model.prompt_len or traced.prompt_len or file.prompt_len or file.avg_prompt_len,
        output_len=model.output_len or traced.output_len or file.output_len or file.avg_output_len,
        source=model.source(folder),
        slo=model.slo,
    )


def _with_lines(refused: PlacementError, source: YamlSource) -> ConfigurationError:
    found = []
    for complaint in refused.complaints:
        field, _, rest = complaint.partition(": ")
        path = tuple(int(step) if step.isdecimal() else step for step in field.split("."))
        known = path[0] in ("models", "cluster")
        found.append(Problem(path, rest, source.line(path)) if known else Problem((), complaint, None))
    return ConfigurationError(source.name, found)
