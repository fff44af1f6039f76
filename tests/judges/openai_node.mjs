// What the Node client of OpenAI says to a gateway: arguments are the folder of node_modules, the base URL, two models.
import { createRequire } from "node:module";

const [folder, baseURL, model, embedder] = process.argv.slice(2);
const required = createRequire(folder + "/")("openai");
const OpenAI = required.OpenAI ?? required.default ?? required;
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];

const whole = await client.chat.completions.create({ model, messages, max_tokens: 24 });
const stream = await client.chat.completions.create({
  model, messages, max_tokens: 24, stream: true, stream_options: { include_usage: true },
});
let streamed = "", finish = null, usage = null;
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  finish = chunk.choices[0]?.finish_reason ?? finish;
  usage = chunk.usage ?? usage;
}
const embedded = await client.embeddings.create({ model: embedder, input: ["a cat", "a dog"] }); // asks for base64
let refused = null;
try {
  await client.chat.completions.create({ model: "nobody", messages });
} catch (error) {
  refused = { kind: error.constructor.name, status: error.status };
}
console.log(JSON.stringify({
  whole: whole.choices[0].message.content, streamed, finish, usage, refused,
  vectors: embedded.data.map((one) => Array.from(one.embedding)),
}));
