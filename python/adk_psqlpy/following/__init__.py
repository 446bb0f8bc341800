"""Following sessions: receiving the events that others append, as they append them."""

# Imported first: the store comes with it, and imports the modules below one by one.
import adk_psqlpy.sessions  # noqa: F401
from adk_psqlpy.following.follower import Follower
from adk_psqlpy.following.following import Following, FollowSettings

__all__ = ["FollowSettings", "Follower", "Following"]
