"""Turns of a Runner on a history that is kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.genai import types

from adk_psqlpy import PsqlpySessionService
from contract.events import said

from .conftest import KEY, Reads

HISTORY = 40


class Echo(BaseLlm):
    """A model that answers at once with how much it was shown."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,
    ) -> AsyncGenerator[LlmResponse, None]:
        parts = [types.Part(text=f"{len(llm_request.contents)} contents")]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


@pytest.fixture
async def runner(reads: Reads) -> Runner:
    """An agent on a session that has a history."""
    await reads.create([said(f"event {number}", seconds=number) for number in range(HISTORY)])
    agent = LlmAgent(name="agent", model=Echo(model="echo"))
    return Runner(app_name=KEY[0], agent=agent, session_service=PsqlpySessionService(reads.store))


async def turn(runner: Runner) -> None:
    message = types.Content(role="user", parts=[types.Part(text="Hello?")])
    async for _ in runner.run_async(user_id=KEY[1], session_id=KEY[2], new_message=message):
        pass


async def test_a_turn_is_not_sent_what_the_turn_before_appended(runner: Runner, reads: Reads) -> None:
    for _ in range(4):
        await turn(runner)
    assert reads.counted == [(0, HISTORY), (HISTORY + 2, 0), (HISTORY + 4, 0), (HISTORY + 6, 0)]
    await reads.read()


async def test_events_of_the_turn_before_are_taken_back(runner: Runner, reads: Reads) -> None:
    """What ADK does with a session in a turn leaves its events as they were, and in nobody's hands."""
    for _ in range(2):
        await turn(runner)
    before = await reads.read()
    assert before is not None
    events = {id(event) for event in before.events}
    del before
    await turn(runner)
    after = await reads.read()
    assert after is not None
    assert len(after.events) == len(events) + 2
    assert sum(id(event) in events for event in after.events) == len(events)
