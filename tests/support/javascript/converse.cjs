/* Asks what a suite says with the JavaScript client of OpenAI's API, and prints one JSON line a conversation.

The standard input is JSON: the address `base_url`, the `keys` by name, and the conversations of the `suite`. */
"use strict";

const fs = require("node:fs");
const OpenAI = require("openai");

const { base_url, keys, suite } = JSON.parse(fs.readFileSync(0, "utf-8"));

/* The verb of a client by its Python name: `responses.input_tokens.count` is `responses.inputTokens.count`. */
function verbOf(client, name) {
  const names = name.split(".").map((part) => part.replace(/_(.)/g, (_, letter) => letter.toUpperCase()));
  const verb = names.pop();
  const owner = names.reduce((found, part) => found[part], client);
  return owner[verb].bind(owner);
}

/* A request with the answer before it in the place of "$answer". */
function completed(request, before) {
  const turns = (items) => items.flatMap((item) => (item !== "$answer" ? [item] : (before.output ?? [before.choices[0].message])));
  const found = { ...request };
  for (const name of ["messages", "input"]) {
    if (Array.isArray(found[name])) found[name] = turns(found[name]);
  }
  return found;
}

/* The answer to a request of plain HTTP. */
async function fetched(client, ask, headers) {
  const answer = await fetch(base_url + ask.path, {
    method: ask.method,
    headers: { Authorization: `Bearer ${client.apiKey}`, ...headers, ...ask.headers },
    body: ask.request && JSON.stringify(ask.request),
  });
  return { status: answer.status, body: await answer.json() };
}

async function asked(client, ask, headers, before, told) {
  if (ask.verb === "fetch") {
    told.answers.push(await fetched(client, ask, headers));
    return null;
  }
  const options = { headers: { ...headers, ...ask.headers } };
  if (ask.timeout) Object.assign(options, { timeout: 1000 * ask.timeout, maxRetries: 0 });
  const verb = verbOf(client, ask.verb);
  const given = ask.id ? [ask.id] : ask.request ? [completed(ask.request, before)] : [];
  const answer = verb(...given, options);
  if (ask.verb.endsWith(".stream")) {
    return await (answer.finalChatCompletion ?? answer.finalResponse).call(answer);
  }
  if (!ask.request?.stream) {
    return await answer;
  }
  const stream = await answer;
  const events = [];
  told.answers.push({ events });
  for await (const event of stream) {
    events.push(event);
    if (events.length === ask.leave) {
      stream.controller.abort();
      break;
    }
  }
  return null;
}

function failure(error) {
  const { status, type, message, headers } = error;
  return { class: error.constructor.name, status, type, message, retry_after: headers?.get("retry-after") };
}

async function converse(conversation) {
  const told = { name: conversation.name, answers: [] };
  const client = new OpenAI({ baseURL: base_url, apiKey: keys[conversation.key ?? "full"] });
  let before = null;
  try {
    for (const ask of conversation.asks) {
      before = await asked(client, ask, conversation.headers, before, told);
      if (before) told.answers.push(before);
    }
  } catch (error) {
    if (!(error instanceof OpenAI.OpenAIError)) throw error;
    told.error = failure(error);
  }
  console.log(JSON.stringify(told));
}

Promise.all(suite.map(converse));
