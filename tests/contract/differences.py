"""How a test declares that one of ADK's own services breaks the promise it states."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
from google.adk.version import __version__ as adk_version

# Ours, and ours with everything sealed.
OURS = ("psqlpy", "sealed")
# The fixtures by which a test runs on each service in turn.
BACKEND_FIXTURES = ("backend", "memory_backend", "artifact_backend")
# What `@differs` says of ADK's own services was found out on this release; older ones differ more.
RIVALS_DESCRIBED_SINCE = (2, 13)

Raises = type[BaseException] | tuple[type[BaseException], ...]
FAILURES = (AssertionError, pytest.fail.Exception)


def differs_among(
    backends: Collection[str], failures: Raises = FAILURES
) -> Callable[..., pytest.MarkDecorator]:
    """The mark `differs` for tests that run on these services."""
    rivals = sorted(set(backends) - set(OURS))

    def differs(*, raises: Raises = failures, **reasons: str) -> pytest.MarkDecorator:
        """Declares which services break the promise of this test, and in what way.

        `@differs(in_memory="why", database="why")`: for these the test must fail, with one of `raises`; one
        that passes, or fails in another way, is a failed run. Ours can never be named.
        """
        if not reasons or set(reasons) - set(rivals):
            raise ValueError(f"differs() takes {rivals}, not {sorted(reasons)}")
        return pytest.mark.differs(raises=raises, reasons=reasons)

    return differs


def backend_of(item: pytest.Item) -> str | None:
    """The name of the service that a test runs on; `None` if it runs on none of them in turn."""
    callspec = getattr(item, "callspec", None)
    parameters = callspec.params if callspec else {}
    return next((parameters[fixture] for fixture in BACKEND_FIXTURES if fixture in parameters), None)


def apply_differences(item: pytest.Item) -> None:
    """Turns the `differs` marks of a test into strict expectations for the service it runs on."""
    name = backend_of(item)
    if name is None:
        return
    if name not in OURS and adk_release() < RIVALS_DESCRIBED_SINCE:
        item.add_marker(pytest.mark.skip(reason=f"described as of ADK {RIVALS_DESCRIBED_SINCE}"))
    for mark in item.iter_markers("differs"):
        reason = mark.kwargs["reasons"].get(name)
        if reason is not None:
            item.add_marker(
                pytest.mark.xfail(strict=True, raises=mark.kwargs["raises"], reason=f"{name}: {reason}")
            )


def adk_release() -> tuple[int, int]:
    """The first two numbers of the installed ADK's version."""
    major, minor = adk_version.split(".")[:2]
    return int(major), int(minor)
