"""One operation: its span, its metrics and its log line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from adk_psqlpy.telemetry.instruments import Instruments

logger: Final = logging.getLogger("adk_psqlpy.operations")
"""One DEBUG line for each operation: its duration, rows, retries, and its wait for a lane."""

_CLIENT: Final = SpanKind.CLIENT

# Exceptions that say that nobody waits for the operation any more. They are not errors of the operation.
_GIVEN_UP: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)

_current: ContextVar[Operation | None] = ContextVar("adk_psqlpy_operation", default=None)


class Operation:
    """One operation under way. The parts of the code that take part in it fill in what they know.

    `rows`: how many events, sessions or rows the caller gets. `retries`: how many statements were sent again.
    `lane_wait`: seconds before a connection could take the statement. `group_size`: how many appends
    travelled in the same statement. `batch_size`: see `Telemetry.operation`. `None`: not known. `replica`:
    whether a standby answered.
    """

    __slots__ = (
        "_attached",
        "_attributes",
        "_instruments",
        "_name",
        "_outer",
        "_pool",
        "_span",
        "_started",
        "_tracer",
        "batch_size",
        "group_size",
        "lane_wait",
        "replica",
        "retries",
        "rows",
    )

    def __init__(
        self,
        tracer: Tracer,
        instruments: Instruments,
        pool: dict[str, str],
        name: str,
        attributes: dict[str, str | int],
    ) -> None:
        """`pool`: the attributes of metrics about the pool."""
        self._tracer = tracer
        self._instruments = instruments
        self._pool = pool
        self._name = name
        self._attributes = attributes
        self._attached: Token[Any] | None = None
        self.retries = 0
        self.replica = False
        self.rows: int | None = None
        self.lane_wait: float | None = None
        self.group_size: int | None = None
        self.batch_size: int | None = None

    def __enter__(self) -> Operation:
        """Start the clock and the span, a child of the caller's."""
        self._outer = _current.set(self)
        self._span = self._tracer.start_span(self._name, kind=_CLIENT, attributes=self._attributes)
        if self._span.is_recording():
            # Log lines of this task carry its id, and histograms refer to it.
            self._attached = otel_context.attach(trace.set_span_in_context(self._span))
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span and record the metrics.

        An exception is recorded as the operation's `error.type`; its text is not kept. If the task was
        cancelled, that is not an error. The operation is then marked `adk_psqlpy.cancelled`, since its
        duration says little.
        """
        seconds = time.perf_counter() - self._started
        _current.reset(self._outer)
        attributes = self._attributes
        ending: dict[str, str | int] = {}
        if kind is not None:
            ending = (
                {"adk_psqlpy.cancelled": True}
                if issubclass(kind, _GIVEN_UP)
                else {"error.type": error_type(kind)}
            )
            attributes = attributes | ending
        instruments = self._instruments
        instruments.duration.record(seconds, attributes)
        if self.lane_wait is not None:
            instruments.wait_time.record(self.lane_wait, self._pool)
        if self.retries:
            instruments.retries.add(self.retries, attributes)
        if self._attached is not None:
            self._end_span(ending)
        if logger.isEnabledFor(logging.DEBUG):
            self._log(seconds, ending)

    def _end_span(self, ending: dict[str, str | int]) -> None:
        assert self._attached is not None
        span = self._span
        for name, value in self._found():
            span.set_attribute(name, value)
        for name, flag in ending.items():
            span.set_attribute(name, flag)
        if "error.type" in ending:
            # There is no description, because it would be the exception's text.
            span.set_status(Status(StatusCode.ERROR))
        otel_context.detach(self._attached)
        span.end()

    def _found(self) -> Iterable[tuple[str, int | float | bool]]:
        if self.rows is not None:
            yield "db.response.returned_rows", self.rows
        if self.batch_size is not None:
            yield "db.operation.batch.size", self.batch_size
        if self.group_size is not None:
            yield "adk_psqlpy.group.size", self.group_size
        if self.lane_wait is not None:
            yield "adk_psqlpy.lane.wait", self.lane_wait
        if self.retries:
            yield "adk_psqlpy.retries", self.retries
        if self.replica:
            yield "adk_psqlpy.replica", True

    def _log(self, seconds: float, ending: dict[str, str | int]) -> None:
        details = "".join(f", {name} {value}" for name, value in [*self._found(), *ending.items()])
        logger.debug("%s took %.6f s%s", self._name, seconds, details)


def current() -> Operation | None:
    """The operation of the running task; `None` if there is none.

    It is for lower layers that do not get the operation as an argument, such as a lane that sends a statement
    again.
    """
    return _current.get()


def error_type(kind: type[BaseException]) -> str:
    """The canonical name of an exception, for `error.type`. psqlpy does not pass on PostgreSQL's codes."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
