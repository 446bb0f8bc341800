"""A chat in the browser whose answers survive closed tabs, reconnects and other workers.

    python examples/resumable_chat.py
    xdg-open http://localhost:8000/

Open the page twice, send a message, and close the tab while the answer is being written: the other tab goes
on, and so does the first one when it is opened again. For several processes: `cd examples; uvicorn
resumable_chat:app --workers 2 --timeout-graceful-shutdown 3`. The agent's model is a script.
The server is the one that DATABASE_URL, or PGHOST and its kin, names; without them an embedded one
(`pip install 'adk-psqlpy[embedded]'`).
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.streaming import PartialTextPlugin, resumable_sse

APP, USER, SESSION = "resumable_chat", "ann", "demo"
WORD_SEC = float(os.environ.get("WORD_SEC", "0.2"))


class Script(BaseLlm):
    """In place of a model: it answers word after word."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Say how much was asked, slowly, with a piece for each word if pieces are wanted."""
        asked = [content for content in llm_request.contents if content.role == "user"]
        last = (asked[-1].parts or [types.Part(text="")])[0].text
        words = f"You have asked {len(asked)} times, and the last time it was: {last}".split(" ")
        for place, word in enumerate(words):
            await asyncio.sleep(WORD_SEC)
            if stream:
                piece = types.Part(text=word if place == 0 else f" {word}")
                yield LlmResponse(content=types.Content(role="model", parts=[piece]), partial=True)
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=" ".join(words))]))


# Nothing is connected yet: that happens on first use, in each worker.
service = PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig()))
agent = LlmAgent(name="echo", model=Script(model="script"), instruction="Answer.")
runner = Runner(
    app=App(name=APP, root_agent=agent, plugins=[PartialTextPlugin(service)]), session_service=service
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Make the tables and the one conversation of this example."""
    await service.store.create_tables()
    try:
        await service.create_session(app_name=APP, user_id=USER, session_id=SESSION)
    except AlreadyExistsError:
        print("the conversation goes on")
    async with service:
        yield


app = FastAPI(lifespan=lifespan)
# A real application says here who may see which session: dependencies=[Depends(...)].
app.include_router(resumable_sse(service, runner))

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Resumable chat</title><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
p { border-radius: .6rem; padding: .5rem .8rem; width: fit-content; max-width: 85%; background: #eef2f7 }
p.user { margin-left: auto; background: #d9ead3 } p.partial { opacity: .6 } p.error { background: #f4cccc }
form { display: flex; gap: .5rem } input { flex: 1; font: inherit; padding: .5rem } button { font: inherit }
</style></head><body><h1>Resumable chat</h1><div id="events"></div><div id="partial"></div>
<form><input autofocus placeholder="Say something"><button>Send</button></form>
<script>
const path = "/users/USER/sessions/SESSION";
const box = document.querySelector("input"), partial = document.querySelector("#partial");
function show(where, kind, text) {
    const line = document.createElement("p");
    line.className = kind;
    line.textContent = text;
    where.append(line);
    line.scrollIntoView();
}
// EventSource reconnects by itself, and names the last event that it has seen.
const stream = new EventSource(path + "/events");
stream.onmessage = (message) => {
    const event = JSON.parse(message.data);
    const text = (event.content?.parts ?? []).map((part) => part.text ?? "").join("");
    show(document.querySelector("#events"), event.author, text);
};
stream.addEventListener("partial", (message) => {
    partial.replaceChildren();
    for (const each of JSON.parse(message.data).texts) {
        show(partial, each.error ? "error" : "partial", each.error ?? each.text);
    }
});
stream.addEventListener("end", (message) => {
    stream.close();
    show(partial, "error", "The conversation has ended: " + JSON.parse(message.data).reason);
});
document.querySelector("form").onsubmit = async (submitted) => {
    submitted.preventDefault();
    const text = box.value;
    box.value = "";
    const headers = {"Content-Type": "application/json"};
    const sent = await fetch(path + "/messages", {method: "POST", headers, body: JSON.stringify({text})});
    if (!sent.ok) {
        show(partial, "error", (await sent.json()).detail);
    }
};
</script></body></html>
"""


@app.get("/")
async def page() -> HTMLResponse:
    """The chat."""
    return HTMLResponse(PAGE.replace("USER", USER).replace("SESSION", SESSION))


if __name__ == "__main__":
    # Streams stay open for as long as browsers do, so the end does not wait for them.
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), access_log=False, timeout_graceful_shutdown=3)
