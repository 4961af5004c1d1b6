"""Libraries that are given our clients: how each answers, streams, calls a tool and fills a schema."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from pydantic import BaseModel

ASKED = "What is the weather in Bern?"


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


def weather(city: str) -> str:
    """Return the weather of a city.

    Args:
        city: the name of the city
    """
    return f"21 degrees in {city}"


async def threaded(iterate):
    """The items of a generator, each read in a thread; leaving closes the generator."""
    items, end = iterate(), object()
    try:
        while (item := await asyncio.to_thread(next, items, end)) is not end:
            yield item
    finally:
        items.close()


class Library:
    """One library in one dialect, with the clients of a workspace and the name of a model.

    A verb that the library lacks is absent. `package` is its name among the installed packages. The verbs of
    a library that is `sync` run in threads, where nothing cancels them. An `embedded` one asks the embedded
    model too.
    """

    package = ""
    dialect = "chat"
    sync = False
    embedded = False

    def __init__(self, ws, model) -> None:
        self.ws = ws
        self.model = model


class LangChain(Library):
    package = "langchain-openai"
    embedded = True

    def llm(self):
        from langchain_openai import ChatOpenAI

        sync, both = self.ws.openai(max_retries=0), self.ws.openai_async(max_retries=0)
        return ChatOpenAI(
            model=self.model,
            client=sync.chat.completions,
            root_client=sync,
            async_client=both.chat.completions,
            root_async_client=both,
            api_key="unused",
            use_responses_api=self.dialect == "responses",
        )

    async def answer(self, asked=ASKED):
        return (await self.llm().ainvoke(asked)).text

    async def stream(self):
        async with aclosing(self.llm().astream(ASKED)) as chunks:
            async for chunk in chunks:
                yield chunk.text

    async def tools(self):
        from langchain_core.messages import HumanMessage
        from langchain_core.tools import tool

        turns, bound, called = [HumanMessage(ASKED)], tool(weather), None
        llm = self.llm().bind_tools([bound])
        async for chunk in llm.astream(turns):
            called = chunk if called is None else called + chunk
        turns += [called, *[await bound.ainvoke(call) for call in called.tool_calls]]
        return (await llm.ainvoke(turns)).text

    async def structured(self):
        return await self.llm().with_structured_output(Weather).ainvoke(ASKED)


class LangChainResponses(LangChain):
    dialect = "responses"
    embedded = False


class LangChainSync(LangChain):
    sync = True
    embedded = False

    async def answer(self, asked=ASKED):
        return (await asyncio.to_thread(self.llm().invoke, asked)).text

    async def stream(self):
        def chunks():
            yield from self.llm().stream(ASKED)

        async with aclosing(threaded(chunks)) as found:
            async for chunk in found:
                yield chunk.text

    tools = None

    async def structured(self):
        return await asyncio.to_thread(self.llm().with_structured_output(Weather).invoke, ASKED)


class PydanticAI(Library):
    package = "pydantic-ai-slim"

    def agent(self, **options):
        from pydantic_ai import Agent
        from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
        from pydantic_ai.providers.openai import OpenAIProvider

        provider = OpenAIProvider(openai_client=self.ws.openai_async(max_retries=0))
        kind = OpenAIChatModel if self.dialect == "chat" else OpenAIResponsesModel
        return Agent(kind(self.model, provider=provider), **options)

    async def answer(self, asked=ASKED):
        return (await self.agent().run(asked)).output

    async def stream(self):
        async with self.agent().run_stream(ASKED) as run:
            async for piece in run.stream_text(delta=True, debounce_by=None):
                yield piece

    async def tools(self):
        async with self.agent(tools=[weather]).run_stream(ASKED) as run:
            return await run.get_output()

    async def structured(self):
        return (await self.agent(output_type=Weather).run(ASKED)).output


class PydanticAIResponses(PydanticAI):
    dialect = "responses"


class OpenAIAgents(Library):
    package = "openai-agents"

    def agent(self, **options):
        import agents

        agents.set_tracing_disabled(disabled=True)
        chat, responses = agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel
        kind = chat if self.dialect == "chat" else responses
        model = kind(model=self.model, openai_client=self.ws.openai_async(max_retries=0))
        return agents.Agent(name="assistant", model=model, **options)

    async def answer(self, asked=ASKED):
        import agents

        return (await agents.Runner.run(self.agent(), asked)).final_output

    async def stream(self, **options):
        import agents

        run = agents.Runner.run_streamed(self.agent(**options), ASKED)
        try:
            async for event in run.stream_events():
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    yield event.data.delta
        finally:
            run.cancel()

    async def tools(self):
        import agents

        return "".join([piece async for piece in self.stream(tools=[agents.function_tool(weather)])])

    async def structured(self):
        import agents

        return (await agents.Runner.run(self.agent(output_type=Weather), ASKED)).final_output


class OpenAIAgentsResponses(OpenAIAgents):
    dialect = "responses"


class SmolAgents(Library):
    package = "smolagents"
    sync = True

    def llm(self):
        from smolagents import OpenAIModel

        return OpenAIModel(model_id=self.model, client=self.ws.openai(max_retries=0), retry=False)

    async def answer(self, asked=ASKED, **options):
        turns = [{"role": "user", "content": asked}]
        return (await asyncio.to_thread(self.llm().generate, turns, **options)).content

    async def stream(self):
        def chunks():
            yield from self.llm().generate_stream([{"role": "user", "content": ASKED}])

        async with aclosing(threaded(chunks)) as found:
            async for chunk in found:
                yield chunk.content or ""

    async def tools(self):
        from smolagents import ToolCallingAgent, tool

        agent = ToolCallingAgent(tools=[tool(weather)], model=self.llm(), verbosity_level=0)
        return await asyncio.to_thread(agent.run, ASKED)

    async def structured(self):
        form = {"name": "Weather", "schema": Weather.model_json_schema()}
        said = await self.answer(response_format={"type": "json_schema", "json_schema": form})
        return Weather.model_validate_json(said)


LIBRARIES = {
    "interop": {
        "LangChain": LangChain,
        "LangChain sync": LangChainSync,
        "LangChain responses": LangChainResponses,
        "pydantic-ai": PydanticAI,
        "pydantic-ai responses": PydanticAIResponses,
        "OpenAI Agents SDK": OpenAIAgents,
        "OpenAI Agents SDK responses": OpenAIAgentsResponses,
        "smolagents": SmolAgents,
    },
}
