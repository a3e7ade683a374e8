"""Put the figures of benchmarks into docs/performance.md: of `python -m muxjax.bench --output FILE`, and of GPUs.

Usage: python -m benchmarks.performance_page FILE...

What the page says of a benchmark is replaced by its files; benchmarks of which there is no file keep what they have.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muxjax.bench.gpu.tables import sheets as gpu_sheets
from muxjax.bench.kernels.tables import sheets as kernel_sheets
from muxjax.bench.tables import markdown, sheets

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_SHEETS = {"figures": sheets, "kernels": kernel_sheets, "gpu": gpu_sheets}


def main() -> None:
    """Replace what is between the marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    sections: dict[str, list[str]] = {}
    for path in parser.parse_args().files:
        results = json.loads(path.read_text())
        benchmark = results.get("benchmark", "figures")
        sections.setdefault(benchmark, []).append(section(path.name, benchmark, results))
    page = PAGE.read_text()
    for benchmark, texts in sections.items():
        page = replace_figures(page, benchmark, "\n\n".join(texts))
    PAGE.write_text(page)


def replace_figures(page: str, benchmark: str, figures: str) -> str:
    """The page with other figures of one benchmark."""
    begin, end = f"<!-- {benchmark}: begin -->", f"<!-- {benchmark}: end -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{figures}\n{end}{after}"


def section(name: str, benchmark: str, results: Mapping[str, Any]) -> str:
    """One run's circumstances and tables."""
    words = cpu_circumstances(results) if benchmark == "figures" else gpu_circumstances(results)
    return f"From `benchmarks/results/{name}`, {results['started']}: {words}\n\n{markdown(_SHEETS[benchmark](results))}"


def cpu_circumstances(results: Mapping[str, Any]) -> str:
    """Where and with what the figures were measured."""
    machine, settings = results["machine"], results["settings"]
    others = results["parts"].get("throughput", {}).get("versions", {})
    loads = [part["load_average"] for part in results["parts"].values()]
    return (
        f"{machine['cpu']} ({', '.join(machine['cpu_flags'])}), {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}; Python {machine['python']}, {versions({**machine['versions'], **others})}. "
        f"Medians of {settings['rounds']} rounds; the machine's load average before and after each part: "
        f"{', '.join(f'{before:.1f} and {after:.1f}' for before, after in loads)}."
    )


def gpu_circumstances(results: Mapping[str, Any]) -> str:
    """Likewise, of a GPU's figures."""
    machine = results["machine"]
    return (
        f"{machine['device']}, driven by {machine['cores']} cores of {machine['cpu']}; Python {machine['python']}, "
        f"{versions(machine['versions'])}."
    )


def versions(packages: Mapping[str, str]) -> str:
    """As a list."""
    return ", ".join(f"{package} {version}" for package, version in packages.items())


if __name__ == "__main__":
    main()
