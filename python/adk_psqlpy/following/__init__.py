"""Sessions followed live: the events that others append, as they append them."""

from adk_psqlpy.following.follower import Follower
from adk_psqlpy.following.following import Following, FollowSettings

__all__ = ["FollowSettings", "Follower", "Following"]
