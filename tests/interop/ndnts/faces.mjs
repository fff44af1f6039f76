// Faces of this process: each has a logical forwarder of its own, as if it were an application of its own.
import { Forwarder } from "@ndn/fw";
import { AltUri } from "@ndn/naming-convention2";
import { enableNfdPrefixReg, PrefixAnn } from "@ndn/nfdmgmt";
import { TcpTransport, UdpTransport, UnixTransport } from "@ndn/node-transport";
import { Data, Nack } from "@ndn/packet";
import { WsTransport } from "@ndn/ws-transport";

const TRANSPORTS = {
  unix: (opts, { path }) => UnixTransport.createFace(opts, path),
  tcp: (opts, { host, port }) => TcpTransport.createFace(opts, host, port),
  udp: (opts, { host, port }) => UdpTransport.createFace(opts, { host, port }),
  ws: (opts, { host, port }) => WsTransport.createFace(opts, `ws://${host}:${port}/`),
};

export class AgentFace {
  /**
   * @param spec.kind unix, tcp, udp or ws, with `path` or `host` and `port`
   * @param spec.lp NDNLPv2 options: mtu (fragment what is larger), keepAlive (ms between IDLE packets)
   * @param spec.localhop send commands to /localhop/nfd, as NDNts does by itself over UDP and WebSocket
   * @param spec.signer signs commands; without one they have a digest only
   * @param spec.register register what is served here with the forwarder: by rib/register, and what has an announcement
   *   object by rib/announce
   */
  static async open(spec) {
    // Data without the PIT token that went out with the Interest is then taken for unsolicited.
    const fw = Forwarder.create({ dataNoTokenMatch: false });
    const seen = { rxerrors: [], nacks: [], data: 0, marked: 0 };
    fw.addEventListener("pktrx", ({ face, packet: { l3, congestionMark } }) => {
      if (face !== self.face) {
        return;
      }
      if (l3 instanceof Nack) {
        seen.nacks.push({ name: AltUri.ofName(l3.interest.name), reason: l3.reason });
        self.onNack(l3);
      } else if (l3 instanceof Data) {
        seen.data += 1;
        seen.marked += Number((congestionMark ?? 0) > 0);
      }
    });
    const self = new AgentFace(fw, seen);
    const opts = {
      fw,
      lp: spec.lp,
      // NDNts calls UDP and WebSocket faces non-local, whoever is at the other end.
      l3: spec.localhop ? { local: false } : { local: true },
      callback: (transport, l3face) => l3face.addEventListener("rxerror", (e) => seen.rxerrors.push(`${e.detail}`)),
    };
    self.signer = spec.signer;
    self.face = await TRANSPORTS[spec.kind](opts, spec);
    if (spec.register) {
      const retry = { forever: true, minTimeout: 200 };
      enableNfdPrefixReg(self.face, { PrefixAnn, retry, signer: spec.signer });
    }
    return self;
  }

  constructor(fw, seen) {
    this.fw = fw;
    this.seen = seen;
    this.waiting = new Map();
  }

  /** Resolves with the Nack of an Interest of this name (a value in hex), when it comes. */
  nackOf(name) {
    return new Promise((resolve) => this.waiting.set(name.valueHex, resolve));
  }

  onNack(nack) {
    const key = nack.interest.name.valueHex;
    this.waiting.get(key)?.(nack);
    this.waiting.delete(key);
  }

  close() {
    this.fw.close();
  }
}
