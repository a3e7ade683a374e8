"""The policies by the names that configurations use."""

from muxjax.serving.scheduler.adbs import ADBS
from muxjax.serving.scheduler.fcfs import FCFS
from muxjax.serving.scheduler.policy import Policy
from muxjax.serving.scheduler.round_robin import RoundRobin

POLICY_NAMES = ("adbs", "fcfs", "round_robin")


def make_policy(name: str, *, quota_period: float = 8.0) -> Policy:
    """A new policy; `quota_period`, seconds between adaptations of the quotas, matters to ADBS alone.

    Raises ValueError for an unknown name.
    """
    match name:
        case "adbs":
            return ADBS(quota_period)
        case "fcfs":
            return FCFS()
        case "round_robin":
            return RoundRobin()
    raise ValueError(f"unknown policy {name!r}; choose one of {', '.join(POLICY_NAMES)}")
