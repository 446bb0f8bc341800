"""The router: messages start runs on the server, and events come back as server-sent events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, HTTPException, Query
from fastapi.params import Depends
from fastapi.responses import StreamingResponse
from google.adk.agents.run_config import RunConfig, StreamingMode  # type: ignore[attr-defined]
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from psqlpy.exceptions import Error
from pydantic import BaseModel, Field

from adk_psqlpy.errors import FollowingClosedError, HistoryLostError, SessionDeletedError
from adk_psqlpy.following import Follower
from adk_psqlpy.sessions.service import PsqlpySessionService
from adk_psqlpy.sessions.stored import Version
from adk_psqlpy.streaming.partials import Partials, Texts, partials_of
from adk_psqlpy.streaming.plugin import PartialTextPlugin
from adk_psqlpy.streaming.runs import Runs

_ID: Final = re.compile(r"(\d{1,18})(?:@(\d{1,18}))?")
_SETTLE_SEC: Final = 1.0  # how long a text waits for the event that replaces it
_NONE: Final = GetSessionConfig(num_recent_events=0)


class Message(BaseModel):
    """What a user says."""

    text: str = Field(min_length=1, max_length=100_000)


def resumable_sse(
    service: PsqlpySessionService,
    runner: Runner,
    *,
    prefix: str = "",
    dependencies: Sequence[Depends] = (),
    run_config: RunConfig | None = None,
    heartbeat_sec: float = 15.0,
    drain_sec: float = 30.0,
) -> APIRouter:
    """A router for conversations that a browser may leave and come back to.

    - `POST {prefix}/users/{user_id}/sessions/{session_id}/messages` with `{"text": ...}` begins a run and
      answers 202 at once. The run belongs to the server: it goes on even if nobody listens.
    - `GET {prefix}/users/{user_id}/sessions/{session_id}/events` is a stream for `EventSource`. It sends the
      session's events after `Last-Event-ID`, or after `?after=`, or all of them, and then new events as they
      come.

    The stream has three kinds of messages. A stored event has the id `seq@create_time`; its data is its JSON,
    by alias. `partial` has all texts that are being streamed at the moment, `{"texts": [...]}`; each one
    replaces the one before. `end` says why nothing more will come, `{"reason": "deleted" | "made again" |
    "history lost"}`; the client then closes the stream. While this process answers a message of a session,
    another message of that session gets a 409.

    Anybody may see any session, unless `dependencies` prevent it.

    Args:
        service: the service whose sessions are followed.
        runner: runs the agent. Its session service must be `service`, and it must have a
            `PartialTextPlugin(service)`.
        prefix: the beginning of the paths.
        dependencies: FastAPI dependencies for each request, such as a check that the caller is the user in
            the path.
        run_config: the configuration of the runs; streaming by default.
        heartbeat_sec: after this many seconds without a message, a comment is sent, so that proxies keep the
            connection.
        drain_sec: how many seconds the application waits at its end for runs under way.

    Raises:
        ValueError: the runner has another session service, or no such plugin.
    """
    if runner.session_service is not service:
        raise ValueError("runner must have this service: Runner(..., session_service=service)")
    plugins = [each for each in runner.plugin_manager.plugins if isinstance(each, PartialTextPlugin)]
    if not any(each.service is service for each in plugins):
        raise ValueError(
            "runner needs the plugin that keeps streamed text: App(..., plugins=[PartialTextPlugin(service)])"
        )
    partials = partials_of(service.store)
    runs = Runs(runner, partials, run_config or RunConfig(streaming_mode=StreamingMode.SSE))

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        await runs.drain(drain_sec)

    router = APIRouter(prefix=prefix, dependencies=list(dependencies), lifespan=lifespan)
    path = "/users/{user_id}/sessions/{session_id}"

    @router.post(f"{path}/messages", status_code=202)
    async def send(user_id: str, session_id: str, message: Message) -> dict[str, bool]:
        """Begin to answer a message."""
        key = (runner.app_name, user_id, session_id)
        try:
            found = await service.get_session(
                app_name=runner.app_name, user_id=user_id, session_id=session_id, config=_NONE
            )
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        if found is None:
            raise HTTPException(404, "no such session")
        if key in runs:
            raise HTTPException(409, "another message of this session is being answered")
        runs.start(key, types.Content(role="user", parts=[types.Part(text=message.text)]))
        return {"accepted": True}

    @router.get(f"{path}/events")
    async def events(
        user_id: str,
        session_id: str,
        after: Annotated[int, Query(ge=0)] = 0,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        """Follow the session."""
        try:
            follower = service.follow(
                app_name=runner.app_name,
                user_id=user_id,
                session_id=session_id,
                after=after if not last_event_id else place_of(last_event_id),
            )
            ended = await _begun(follower)
        except SessionNotFoundError as error:
            raise HTTPException(404, "no such session") from error
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        messages = _View(service, partials, follower, heartbeat_sec).messages(ended)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(messages, media_type="text/event-stream", headers=headers)

    return router


def place_of(last_event_id: str) -> int | Version:
    """Read a `Last-Event-ID`: a `seq`, and the session's create_time if it has one.

    Raises:
        ValueError: it is neither.
    """
    found = _ID.fullmatch(last_event_id)
    if found is None:
        raise ValueError(f"Last-Event-ID must be a seq, or seq@create_time, not {last_event_id!r}")
    seq, micros = found.groups()
    return int(seq) if micros is None else Version(int(seq), int(micros) / 1e6)


async def _begun(follower: Follower) -> str | None:
    """Look up the session before the response begins. Gives the reason if nothing is left to follow."""
    try:
        await follower.__aenter__()
    except (SessionDeletedError, HistoryLostError) as error:
        return _reason(error)
    return None


def _reason(error: SessionDeletedError | HistoryLostError) -> str:
    if isinstance(error, HistoryLostError):
        return "history lost"
    return "made again" if error.made_again else "deleted"


class _View:
    """One browser's view of a session."""

    def __init__(
        self, service: PsqlpySessionService, partials: Partials, follower: Follower, heartbeat_sec: float
    ) -> None:
        self._following = service.store.following
        self._partials = partials
        self._follower = follower
        self._heartbeat_sec = heartbeat_sec

    async def messages(self, ended: str | None) -> AsyncIterator[str]:
        """Yield the stream's messages, until the browser goes away or there is nothing more to follow."""
        if ended is not None:
            yield _message({"reason": ended}, "end")
            return
        yield "retry: 1000\n\n"
        event = asyncio.ensure_future(anext(self._follower))
        texts = asyncio.ensure_future(self._partials.next(self._follower.key, None))
        shown: Texts | None = None
        try:
            while True:
                both, first = {event, texts}, asyncio.FIRST_COMPLETED
                await asyncio.wait(both, timeout=self._heartbeat_sec, return_when=first)
                if not (event.done() or texts.done()):
                    yield ": nothing new\n\n"
                if texts.done() and not event.done() and shown is not None:
                    # A text may be gone because its event is stored. The event is sent first, or the page
                    # would flicker.
                    self._following.appended(self._follower.key)
                    if len(json.loads(texts.result().json)) < len(json.loads(shown.json)):
                        await asyncio.wait({event}, timeout=_SETTLE_SEC)
                if event.done():
                    yield self._stored(event.result())
                    event = asyncio.ensure_future(anext(self._follower))
                elif texts.done():
                    known, shown = shown, texts.result()
                    if known is not None or shown.json != "[]":
                        yield f'event: partial\ndata: {{"texts": {shown.json}}}\n\n'
                    texts = asyncio.ensure_future(self._partials.next(self._follower.key, shown))
        except (SessionDeletedError, HistoryLostError) as error:
            yield _message({"reason": _reason(error)}, "end")
        except (FollowingClosedError, Error):
            return  # the browser will connect again, perhaps to another process
        finally:
            for task in (event, texts):
                task.cancel()
            await asyncio.gather(event, texts, return_exceptions=True)
            await self._follower.aclose()

    def _stored(self, event: Event) -> str:
        micros = round(self._follower.position.create_time * 1e6)
        data = event.model_dump_json(by_alias=True, exclude_none=True)
        return f"id: {self._follower.seq}@{micros}\ndata: {data}\n\n"


def _message(data: dict[str, str], name: str) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
