// An NDNts application under remote control: one JSON request a line on stdin, one JSON answer a line on stdout.
// Requests run side by side; an answer carries its request's id. The end of stdin ends the process.
import "./node20.mjs";

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { consume, produce } from "@ndn/endpoint";
import { Certificate, createVerifier, generateSigningKey } from "@ndn/keychain";
import { AltUri } from "@ndn/naming-convention2";
import * as nfdmgmt from "@ndn/nfdmgmt";
import { Data, digestSigning, Interest, Name } from "@ndn/packet";
import { retrieveMetadata } from "@ndn/rdr";
import { BufferChunkSource, discoverVersion, fetch, serve } from "@ndn/segmented-object";

import { AgentFace } from "./faces.mjs";
import { encodeVector, SvsMember } from "./svs.mjs";

const faces = new Map();
const servers = new Map();
const keys = new Map();
const members = new Map();
let lastId = 0;

const name = (uri) => AltUri.parseName(uri);

function keep(table, object) {
  lastId += 1;
  table.set(lastId, object);
  return lastId;
}

/** What JSON can carry: names as URIs, big integers as numbers. */
function plain(value) {
  if (value instanceof Name) {
    return AltUri.ofName(value);
  }
  if (typeof value === "bigint") {
    return Number(value);
  }
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  if (value instanceof Uint8Array) {
    return Buffer.from(value).toString("base64");
  }
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, plain(member)]));
  }
  return value;
}

function mgmtOptions({ fw, face, signer }) {
  return { prefix: nfdmgmt.getPrefix(face.attributes.local), cOpts: { fw }, signer };
}

const OPERATIONS = {
  async open(request) {
    const face = await AgentFace.open({ ...request, signer: keys.get(request.signer) });
    return { face: keep(faces, face), local: face.face.attributes.local };
  },

  close({ face }) {
    faces.get(face).close();
    faces.delete(face);
  },

  /** A new key; its private half stays here. */
  async makeKey({ identity }) {
    const [signer, verifier] = await generateSigningKey(name(identity));
    return { key: keep(keys, signer), name: signer.name, spki: verifier.spki };
  },

  /** From now on the key's signatures name this certificate. */
  certified({ key, certificate }) {
    keys.set(key, keys.get(key).withKeyLocator(name(certificate)));
  },

  seen({ face }) {
    return faces.get(face).seen;
  },

  /** A segmented object of this very name; every segment's digest signature is checked. */
  async fetch({ face, uri, verify = true }) {
    const result = fetch(name(uri), { fw: faces.get(face).fw, verifier: verify ? digestSigning : undefined });
    const content = await result;
    return { bytes: content.length, sha256: createHash("sha256").update(content).digest("hex"), segments: result.count };
  },

  /** The versioned name that the metadata packet gives (RDR), checked with the certificate of this name. */
  async metadata({ face, uri, certificate }) {
    const { fw } = faces.get(face);
    const options = { fw };
    if (certificate) {
      const data = await consume(new Interest(name(certificate), Interest.CanBePrefix), { fw });
      options.verifier = await createVerifier(Certificate.fromData(data));
    }
    return (await retrieveMetadata(name(uri), options)).name;
  },

  /** The versioned name that the newest Data below the name has. */
  discover({ face, uri }) {
    return discoverVersion(name(uri), { cOpts: { fw: faces.get(face).fw } });
  },

  /** Serve a file's bytes; `announcement` is what is registered (by default the name itself). */
  serve({ face, uri, path, announcement, answerBelow }) {
    const { fw } = faces.get(face);
    const pOpts = { fw, announcement: announcement && name(announcement) };
    const producerPrefix = answerBelow && name(answerBelow);
    const server = serve(name(uri), new BufferChunkSource(readFileSync(path), { chunkSize: 8000 }), { pOpts, producerPrefix });
    return keep(servers, server);
  },

  /** Answer every Interest below a prefix with small Data. With `announced`, `uri` is registered by an announcement
   * object that lasts so many milliseconds. */
  async answer({ face, uri, text, freshness = 1, announced }) {
    const reply = async (interest) => new Data(interest.name, Buffer.from(text), Data.FreshnessPeriod(freshness));
    const announcement = announced && (await nfdmgmt.PrefixAnn.build({ announced: name(uri), expirationPeriod: announced }));
    return keep(servers, produce(name(uri), reply, { fw: faces.get(face).fw, announcement }));
  },

  /** Answer the calls below a prefix with this content, signed by a key made here; they come by the forwarding hint that
   * is announced in the prefix's place. What came is kept: names, hints, parameters. */
  takeCalls({ face, uri, announcement, signer, content }) {
    const came = [];
    const reply = async (interest) => {
      came.push({ name: interest.name, hints: [...(interest.fwHint?.delegations ?? [])], parameters: interest.appParameters });
      const data = new Data(interest.name, Buffer.from(content, "base64"), Data.FreshnessPeriod(1000));
      await keys.get(signer).sign(data);
      return data;
    };
    const { fw } = faces.get(face);
    fw.nodeNames.push(name(announcement)); // who stands in a hint has reached its end there
    const server = produce(name(uri), reply, { fw, announcement: name(announcement) });
    return keep(servers, Object.assign(server, { came }));
  },

  callsTaken({ server }) {
    return servers.get(server).came;
  },

  stop({ server }) {
    servers.get(server).close();
    servers.delete(server);
  },

  /** One Interest: its Data, or the Nack that came instead. */
  async express({ face, uri, lifetime = 4000, canBePrefix = false, mustBeFresh = false, parameters }) {
    const agent = faces.get(face);
    const interest = new Interest(name(uri), Interest.Lifetime(lifetime));
    Object.assign(interest, { canBePrefix, mustBeFresh });
    if (parameters !== undefined) {
      interest.appParameters = Buffer.from(parameters);
      await interest.updateParamsDigest();
    }
    const abort = new AbortController();
    const nacked = agent.nackOf(interest.name).then(({ reason }) => ({ nack: reason }));
    const answered = consume(interest, { fw: agent.fw, signal: abort.signal }).then(
      (data) => ({ name: data.name, content: data.content, freshness: data.freshnessPeriod }),
    );
    try {
      return await Promise.race([nacked, answered]);
    } finally {
      answered.catch(() => undefined);
      abort.abort();
    }
  },

  /** Become a member of a State Vector Sync group, with one of the keys made here. */
  async svsJoin({ face, signer, ...options }) {
    return keep(members, await SvsMember.join(faces.get(face), { ...options, signer: keys.get(signer) }));
  },

  svsPublish({ member, application, text, content }) {
    return members.get(member).publish(application, content ? Buffer.from(content, "base64") : Buffer.from(text));
  },

  svsFetch({ member, uri, boot, sequence }) {
    return members.get(member).fetch(uri, boot, sequence);
  },

  svsHeard({ member }) {
    const { updates, errors, state, read } = members.get(member);
    return { updates, errors, state, read };
  },

  /** Its own publication layer, and what it subscribes to: a publisher or a topic. */
  svsUseLayer({ member, node, subscriptions }) {
    const joined = members.get(member).useLayer(node);
    for (const topic of subscriptions) {
      joined.subscribe(topic);
    }
  },

  svsLayerPublish({ member, application, text }) {
    return members.get(member).publisher.publish(name(application), Buffer.from(text));
  },

  svsLeave({ member }) {
    members.get(member).close();
    members.delete(member);
  },

  svsEncode({ entries }) {
    return encodeVector(entries);
  },

  /** A management command of @ndn/nfdmgmt. */
  async invoke({ face, command, params }) {
    for (const key of ["name", "strategy"]) {
      params[key] &&= name(params[key]);
    }
    const { statusCode, statusText, body } = await nfdmgmt.invoke(command, params, mgmtOptions(faces.get(face)));
    const empty = body.length === 0;
    return {
      code: statusCode,
      text: statusText,
      body: empty ? null : nfdmgmt.ControlParameters.decodeFromResponseBody({ body }),
    };
  },

  erase({ face, uri }) {
    return nfdmgmt.invokeCsErase(name(uri), mgmtOptions(faces.get(face)));
  },

  /** A status dataset by the name of its class in @ndn/nfdmgmt; `filter` makes a faces/query. */
  list({ face, dataset, filter }) {
    return nfdmgmt.list(filter ? nfdmgmt.FaceQuery(filter) : nfdmgmt[dataset], mgmtOptions(faces.get(face)));
  },
};

async function run({ id, op, ...request }) {
  let answer;
  try {
    answer = { id, result: plain((await OPERATIONS[op](request)) ?? null) };
  } catch (error) {
    answer = { id, error: `${error}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

const input = createInterface({ input: process.stdin });
input.on("line", (line) => void run(JSON.parse(line)));
input.on("close", () => process.exit(0));
process.stdout.write(`${JSON.stringify({ id: 0, result: { webSocket: "WebSocket" in globalThis } })}\n`);
