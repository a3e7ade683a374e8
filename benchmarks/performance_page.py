"""Put the figures of runs of `python -m muxjax.bench --output FILE` into docs/performance.md.

Usage: python -m benchmarks.performance_page FILE...
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muxjax.bench.tables import markdown

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main() -> None:
    """Replace what is between the marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    figures = "\n\n".join(section(path) for path in parser.parse_args().files)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}")


def section(path: Path) -> str:
    """One run's circumstances and tables."""
    results = json.loads(path.read_text())
    return f"{circumstances(path.name, results)}\n\n{markdown(results)}"


def circumstances(name: str, results: Mapping[str, Any]) -> str:
    """When, where and with what the figures were measured."""
    machine, settings = results["machine"], results["settings"]
    others = results["parts"].get("throughput", {}).get("versions", {})
    versions = ", ".join(f"{package} {version}" for package, version in {**machine["versions"], **others}.items())
    loads = [part["load_average"] for part in results["parts"].values()]
    return (
        f"From `benchmarks/results/{name}`, {results['started']}: {machine['cpu']} "
        f"({', '.join(machine['cpu_flags'])}), {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}; Python {machine['python']}, {versions}. Medians of {settings['rounds']} rounds; "
        f"the machine's load average before and after each part: "
        f"{', '.join(f'{before:.1f} and {after:.1f}' for before, after in loads)}."
    )


if __name__ == "__main__":
    main()
