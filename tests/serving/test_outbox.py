"""Each receiver is called once a step."""

from muxjax.serving.outbox import Outbox
from muxjax.serving.request import Output


class Receiver:
    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def deliver(self, outputs) -> None:
        self.calls.append([output.request_id for output in outputs])


def test_outputs_reach_their_receivers_together_and_in_order():
    first, second = Receiver(), Receiver()
    outbox = Outbox()
    for receiver, request_id in [(first, "a"), (second, "b"), (first, "c")]:
        outbox.put(receiver.deliver, Output(request_id, 0))
    outbox.flush()
    assert (first.calls, second.calls) == ([["a", "c"]], [["b"]])


def test_nothing_is_delivered_twice_and_nobody_is_called_for_nothing():
    receiver = Receiver()
    outbox = Outbox()
    outbox.put(receiver.deliver, Output("a", 0))
    outbox.flush()
    outbox.flush()
    assert receiver.calls == [["a"]]
