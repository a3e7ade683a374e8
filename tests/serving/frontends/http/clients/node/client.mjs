// OpenAI's client for Node: everything that people do with it, against a server that repeats its prompts.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];

const models = (await client.models.list()).data.map((model) => model.id);

const completion = await client.completions.create({ model: "echo", prompt: "héllo 🎈", max_tokens: 9, logprobs: 1 });
const ids = await client.completions.create({ model: "ids", prompt: [65, 66], max_tokens: 3 });
const chat = await client.chat.completions.create({ model: "echo", messages, max_completion_tokens: 8, n: 2, seed: 1 });

let streamed = "";
let usage;
for await (const chunk of await client.chat.completions.create({
  model: "echo",
  messages,
  max_tokens: 16,
  stream: true,
  stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}

const runner = client.chat.completions.stream({ model: "echo", messages, max_tokens: 8 });
const helper = await runner.finalContent();

async function failure(request) {
  try {
    await client.completions.create(request);
  } catch (error) {
    return [error.constructor.name, error.status, error.code, error.param];
  }
}
const failures = [
  await failure({ model: "eco", prompt: "a" }),
  await failure({ model: "echo", prompt: "a", temperature: -1 }),
  await failure({ model: "late", prompt: "a" }),
];

const endless = await client.completions.create({ model: "echo", prompt: "ab", max_tokens: 90_000, stream: true });
for await (const chunk of endless) {
  endless.controller.abort();
}

console.log(
  JSON.stringify({
    models,
    completion: completion.choices[0].text,
    tokens: completion.choices[0].logprobs.tokens,
    ids: ids.choices[0].token_ids,
    chat: chat.choices.map((choice) => choice.message.content),
    streamed,
    usage,
    helper,
    failures,
  }),
);
