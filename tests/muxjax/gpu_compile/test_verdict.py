"""What the gate reads in an optimised program."""

from muxjax.gpu_compile.verdict import summed_elements

PROGRAM = """\
ENTRY %main {
  %embedded = bf16[8,64]{1,0} all-reduce(%rows), channel_id=1, to_apply=%add
  %first = ((bf16[8,64]{1,0}, bf16[16]{0}), (bf16[8,64]{1,0}, bf16[16]{0})) all-reduce-start(%left, %right)
  %ended = (bf16[8,64]{1,0}, bf16[16]{0}) all-reduce-done(%first)
  ROOT %both = (bf16[8,64]{1,0}, bf16[4]{0}) all-reduce(%attended, %other), channel_id=3
}
"""


def test_what_devices_sum_up_is_counted_once_whether_or_not_it_is_awaited_later() -> None:
    assert summed_elements(PROGRAM) == 3 * 8 * 64 + 16 + 4
