"""The pool and the steps' time, each as a bar that is divided among the LLMs."""

from collections.abc import Mapping

from rich.text import Text

from muxjax.serving.statistics import RATE_SECONDS
from muxjax.serving.unit import LLMStatus, UnitStatus
from muxjax.top.bars import Part, bar, labels
from muxjax.top.figures import percent
from muxjax.top.glyphs import Glyphs


def memory(unit: UnitStatus, colors: Mapping[str, str], width: int, glyphs: Glyphs) -> list[Text]:
    """Who may hold what of the pool, holds what, and borrows what."""
    total, used = unit.blocks_total, unit.blocks_total - unit.blocks_free
    words = f"{used:,} of {total:,} head blocks, {percent(used / total if total else 0.0)}"
    key = f"{glyphs.full} held  {glyphs.borrowed} borrowed  {glyphs.unused} quota not used"
    sizes = _sizes(unit)
    others = used - sum(llm.blocks_used for llm in unit.llms)  # of LLMs that this caller may not see
    parts = [part for llm in unit.llms for part in _parts(llm, sizes[llm.name], colors[llm.name], glyphs)]
    parts += [Part(others, glyphs.full, "dim"), Part(total - others - sum(sizes.values()), glyphs.empty, "dim")]
    return [_title("memory", words, key, width), bar(parts, total, width), labels(sizes, total, width, glyphs)]


def compute(unit: UnitStatus, colors: Mapping[str, str], width: int, glyphs: Glyphs) -> list[Text]:
    """Whose prefills and decodes the time went to, and how much of it nothing ran."""
    words = f"busy {percent(unit.busy)} of the last {RATE_SECONDS} s, {unit.steps:,} steps"
    key = f"{glyphs.full} prefill  {glyphs.half} decode  {glyphs.empty} idle"
    sizes = {llm.name: unit.busy * (llm.prefill_share + llm.decode_share) for llm in unit.llms}
    parts = [
        Part(unit.busy * share, glyph, colors[llm.name])
        for llm in unit.llms
        for share, glyph in ((llm.prefill_share, glyphs.full), (llm.decode_share, glyphs.half))
    ]
    parts.append(Part(max(1 - sum(sizes.values()), 0.0), glyphs.empty, "dim"))
    return [_title("compute", words, key, width), bar(parts, 1.0, width), labels(sizes, 1.0, width, glyphs)]


def _sizes(unit: UnitStatus) -> dict[str, int]:
    """The blocks that each LLM's stretch of the pool's bar stands for.

    Quotas that promise more than there is divide nothing: then it is what they hold.
    """
    claims = {llm.name: max(llm.blocks_quota, llm.blocks_used) for llm in unit.llms}
    if sum(claims.values()) <= unit.blocks_total:
        return claims
    return {llm.name: llm.blocks_used for llm in unit.llms}


def _parts(llm: LLMStatus, size: int, color: str, glyphs: Glyphs) -> list[Part]:
    due = min(llm.blocks_used, llm.blocks_entitled)
    return [
        Part(due, glyphs.full, color),
        Part(llm.blocks_used - due, glyphs.borrowed, color),
        Part(size - llm.blocks_used, glyphs.unused, color),
    ]


def _title(name: str, words: str, key: str, width: int) -> Text:
    title = Text.assemble((name.ljust(9), "bold"), words)
    if len(title) + len(key) + 2 <= width:
        title.append(key.rjust(width - len(title)), "dim")
    return title
