// A member of a State Vector Sync group: @ndn/svs does the synchronization (version 3), signs and verifies its state
// vectors. Publications: Data packets of the specification's names, or NDNts's own publication layer (SvPublisher,
// SvSubscriber), which has the names of an older revision.
import { consume, produce } from "@ndn/endpoint";
import { Certificate, createVerifier } from "@ndn/keychain";
import { AltUri } from "@ndn/naming-convention2";
import { Data, digestSigning, Interest } from "@ndn/packet";
import { DataArray } from "@ndn/repo-api";
import { StateVector, SvPublisher, SvSubscriber, SvSync } from "@ndn/svs";
import { Decoder, Encoder } from "@ndn/tlv";

const ENCAPSULATED = 6;
const name = (uri) => AltUri.parseName(uri);

/** Verifies by the certificates of these names, each fetched once; other keys are refused. */
async function verifierOf(fw, certificates) {
  const known = new Map();
  for (const uri of certificates) {
    const data = await consume(new Interest(name(uri), Interest.CanBePrefix), { fw });
    const certificate = Certificate.fromData(data);
    known.set(certificate.name.valueHex, await createVerifier(certificate));
  }
  return {
    async verify(packet) {
      const locator = packet.sigInfo?.keyLocator?.name;
      const verifier = locator && known.get(locator.valueHex);
      if (!verifier) {
        throw new Error(`unknown key ${locator}`);
      }
      await verifier.verify(packet);
    },
  };
}

export class SvsMember {
  static async join(agent, { group, node, signer, certificates }) {
    const verifier = await verifierOf(agent.fw, certificates);
    const sync = await SvSync.create({
      fw: agent.fw,
      syncPrefix: name(group),
      svs3: true,
      suppressionPeriod: 200,
      signer,
      verifier,
    });
    return new SvsMember(agent.fw, sync, { group, node, signer, verifier });
  }

  constructor(fw, sync, { group, node, signer, verifier }) {
    Object.assign(this, { fw, sync, signer, verifier });
    this.me = sync.add(name(node));
    this.updates = [];
    this.errors = [];
    this.served = new Map();
    this.base = `${AltUri.ofName(name(node))}${AltUri.ofName(name(group))}`;
    this.group = group;
    sync.addEventListener("update", ({ id, loSeqNum, hiSeqNum }) =>
      this.updates.push({ name: AltUri.ofName(id.name), boot: id.boot, low: loSeqNum, high: hiSeqNum }));
    sync.addEventListener("rxerror", ({ detail }) => this.errors.push(`${detail[1]}`));
    this.producer = produce(name(this.base), async (interest) => this.served.get(interest.name.valueHex), { fw });
  }

  /** Publish one packet: an encapsulated Data of the application's name. */
  async publish(application, content) {
    const sequence = this.me.seqNum + 1;
    const inner = new Data(name(application), content);
    await digestSigning.sign(inner);
    const outer = new Data(name(`${this.base}/t=${this.me.id.boot}/seq=${sequence}`), Encoder.encode(inner));
    outer.contentType = ENCAPSULATED;
    outer.freshnessPeriod = 60_000;
    await this.signer.sign(outer);
    this.served.set(outer.name.valueHex, outer);
    this.me.seqNum = sequence;
    return { boot: this.me.id.boot, sequence };
  }

  /** From now on publish and read through NDNts's own publication layer; what is read is kept. */
  useLayer(node) {
    this.producer.close();
    this.read = [];
    const id = name(node);
    this.publisher = new SvPublisher({
      pOpts: { fw: this.fw },
      sync: this.sync,
      id,
      store: new DataArray(),
      outerSigner: this.signer,
      mappingSigner: this.signer,
    });
    this.subscriber = new SvSubscriber({
      cOpts: { fw: this.fw },
      sync: this.sync,
      outerVerifier: this.verifier,
      mappingVerifier: this.verifier,
    });
    this.subscriber.addEventListener("error", ({ detail }) => this.errors.push(`${detail}`));
    return this;
  }

  subscribe(topic) {
    const subscription = this.subscriber.subscribe(topic.publisher ? { publisher: name(topic.publisher) } : name(topic.prefix));
    subscription.addEventListener("update", ({ publisher, seqNum, name: application, payload }) =>
      this.read.push({ publisher: AltUri.ofName(publisher), sequence: seqNum, name: application, content: payload }));
  }

  /** The publication of another member, its outer signature and the digest of the inner packet checked. */
  async fetch(node, boot, sequence) {
    const uri = `${node}${AltUri.ofName(name(this.group))}/t=${boot}/seq=${sequence}`;
    const outer = await consume(new Interest(name(uri), Interest.CanBePrefix), { fw: this.fw, verifier: this.verifier });
    const inner = Decoder.decode(outer.content, Data);
    await digestSigning.verify(inner);
    return { type: outer.contentType, name: inner.name, content: inner.content };
  }

  get state() {
    return Array.from(this.sync.currentStateVector, ([id, sequence]) => ({ name: id.name, boot: id.boot, sequence }));
  }

  close() {
    this.sync.close();
    this.producer.close();
    this.subscriber?.close();
    void this.publisher?.close();
  }
}

/** A state vector as NDNts encodes it. */
export function encodeVector(entries) {
  const vector = new StateVector();
  for (const { name: uri, boot, sequence } of entries) {
    vector.set({ name: name(uri), boot }, sequence);
  }
  return Buffer.from(Encoder.encode({ encodeTo: (encoder) => vector.encodeTo(encoder, 3) })).toString("hex");
}
