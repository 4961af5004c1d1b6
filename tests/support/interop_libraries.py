"""Libraries that are given our clients: how each answers, streams, calls a tool and fills a schema."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

from pydantic import BaseModel
from scripted_endpoint import TEXT

ASKED = "What is the weather in Bern?"


WEATHER = {
    "name": "weather",
    "description": "Return the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


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
    model too. A stream gives the text `streams`.
    """

    title = ""
    package = ""
    dialect = "chat"
    sync = False
    embedded = False
    streams = TEXT
    stream = tools = structured = None

    def __init__(self, ws, model) -> None:
        self.ws = ws
        self.model = model


class LangChain(Library):
    title = "LangChain"
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
    title = "pydantic-ai"
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
    title = "OpenAI Agents SDK"
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
    title = "smolagents"
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


class LiteLLM(Library):
    title = "LiteLLM SDK"
    package = "litellm"
    embedded = True

    async def ask(self, asked=ASKED, **options):
        import litellm

        litellm.telemetry, litellm.suppress_debug_info = False, True
        turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        return await litellm.acompletion(
            model=f"openai/{self.model}",
            messages=turns,
            client=self.ws.openai_async(max_retries=0),
            max_retries=0,
            **options,
        )

    async def answer(self, asked=ASKED):
        return (await self.ask(asked)).choices[0].message.content

    async def stream(self):
        chunks = await self.ask(stream=True)
        try:
            async for chunk in chunks:
                yield chunk.choices[0].delta.content or ""
        finally:
            await chunks.aclose()

    async def tools(self):
        import litellm

        tools = [{"type": "function", "function": WEATHER}]
        parts = [chunk async for chunk in await self.ask(tools=tools, stream=True)]
        called = litellm.stream_chunk_builder(parts).choices[0].message
        (call,) = called.tool_calls
        result = weather(**json.loads(call.function.arguments))
        turns = [
            {"role": "user", "content": ASKED},
            called.model_dump(),
            {"role": "tool", "tool_call_id": call.id, "content": result},
        ]
        return (await self.ask(turns, tools=tools)).choices[0].message.content

    async def structured(self):
        answer = await self.ask(response_format=Weather)
        return Weather.model_validate_json(answer.choices[0].message.content)

    async def ignored(self, url):
        """A verb that ignores the client: it reaches the endpoint by itself."""
        import litellm

        answer = await litellm.aresponses(
            model=f"openai/{self.model}",
            input=ASKED,
            client=self.ws.openai_async(max_retries=0),
            api_base=url,
            api_key="unused",
            max_retries=0,
        )
        return answer.output_text


class Instructor(Library):
    """Its stream is a schema that is filled bit by bit; it has no loop of tools."""

    title = "instructor"
    package = "instructor"
    streams = "Bern"

    def ask(self, asked=ASKED, *, verb="create", response_model=Weather):
        import instructor

        mode = instructor.Mode.TOOLS if self.dialect == "chat" else instructor.Mode.RESPONSES_TOOLS
        client = instructor.from_openai(self.ws.openai_async(max_retries=0), mode=mode)
        turns = [{"role": "user", "content": asked}]
        return getattr(client, verb)(model=self.model, messages=turns, response_model=response_model)

    async def answer(self, asked=ASKED):
        return (await self.ask(asked, response_model=None)).choices[0].message.content

    async def stream(self):
        before = ""
        async with aclosing(self.ask(verb="create_partial")) as parts:
            async for part in parts:
                city = part.city or ""
                yield city.removeprefix(before)
                before = city

    async def structured(self):
        return await self.ask()


class InstructorResponses(Instructor):
    dialect = "responses"

    async def answer(self, asked=ASKED):
        return (await self.ask(asked, response_model=None)).output_text


class LlamaIndex(Library):
    title = "LlamaIndex"
    package = "llama-index-llms-openai-like"

    def llm(self):
        from llama_index.llms.openai_like import OpenAILike

        return OpenAILike(
            model=self.model,
            is_chat_model=True,
            is_function_calling_model=True,
            should_use_structured_outputs=True,
            openai_client=self.ws.openai(max_retries=0),
            async_openai_client=self.ws.openai_async(max_retries=0),
            max_retries=0,
        )

    async def answer(self, asked=ASKED):
        return (await self.llm().acomplete(asked)).text

    async def stream(self):
        async with aclosing(await self.llm().astream_complete(ASKED)) as parts:
            async for part in parts:
                yield part.delta

    async def tools(self):
        from llama_index.core.tools import FunctionTool

        llm, tool = self.llm(), FunctionTool.from_defaults(weather)
        from llama_index.core.llms import ChatMessage

        turns = [ChatMessage(role="user", content=ASKED)]
        async for part in await llm.astream_chat_with_tools([tool], chat_history=turns):
            said = part
        (call,) = llm.get_tool_calls_from_response(said)
        result = str(tool(**call.tool_kwargs))
        turns += [
            said.message,
            ChatMessage(role="tool", content=result, additional_kwargs={"tool_call_id": call.tool_id}),
        ]
        return (await llm.achat_with_tools([tool], chat_history=turns)).message.content

    async def structured(self):
        from llama_index.core.prompts import PromptTemplate

        return await self.llm().astructured_predict(Weather, PromptTemplate(ASKED))


class LlamaIndexResponses(LlamaIndex):
    dialect = "responses"
    package = "llama-index-llms-openai"

    def llm(self):
        from llama_index.llms.openai import OpenAIResponses

        return OpenAIResponses(
            model=self.model,
            context_window=4096,
            openai_client=self.ws.openai(max_retries=0),
            async_openai_client=self.ws.openai_async(max_retries=0),
            max_retries=0,
        )


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
    "interop-older": {
        "LiteLLM": LiteLLM,
        "instructor": Instructor,
        "instructor responses": InstructorResponses,
        "LlamaIndex": LlamaIndex,
        "LlamaIndex responses": LlamaIndexResponses,
    },
}
