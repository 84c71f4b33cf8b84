// The connection: signalling, media, events, and coming back after the network was gone. No page in here.

const VERSION = 1;
const RETRY_MS = [300, 700, 1500, 3000];
const CROWD_MS = 30000; // for so long somebody is let try again by the page itself where many are connecting
const LOOK_MS = 2000; // without a connection, after which the server is asked whether it still waits for it
const BEAT_MS = 500;
const MOST_KEPT = 8; // questions
const SILENT_MS = 1600; // without an answer, after which people are told

export class CallError extends Error {
  constructor(code, message = "", waitMs = 1000) { super(message || code); this.code = code; this.waitMs = waitMs; }
}

/** One conversation. Events: `event` (detail: what the server told), `phase` (connecting, talking, away, ended), `trouble`,
 * `stall` (detail: whether nothing comes from the server while the connection seems to be there), `moved` (to another machine). */
export class Call extends EventTarget {
  constructor({ config, token = "" }) {
    super();
    this.config = config;
    this.token = token;
    this.phase = "idle";
    this.resume = null;
    this.peer = null;
    this.remote = new MediaStream();
    this.stalled = false;
    this.questions = new Map(); // id → {text, state}, as pipeline/dialogue/written.py says
    this.greeted = null; // the channel on which `hello` has come
    this.held = []; // controls for the machine that the conversation moves to
    this.over = new Promise((_, reject) => this.addEventListener("phase", ({ detail }) => detail === "ended" && reject(new CallError("hung-up"))));
    this.over.catch(() => {});
  }

  async start(stream) {
    this.stream = stream;
    this.#phase("connecting");
    const until = performance.now() + CROWD_MS;
    for (;;) {
      try { await Promise.race([this.#connect(), this.over]); return; } catch (error) {
        if (this.phase === "ended") throw error;
        if (error.code === "gone") { this.resume = null; error = new CallError("connecting"); } // others came between
        const waitMs = error.waitMs * (0.75 + Math.random() / 2);
        if (error.code !== "connecting") throw error;
        this.#hangUp();
        if (performance.now() + waitMs > until) throw new CallError("crowd");
        this.dispatchEvent(new CustomEvent("trouble", { detail: error }));
        await Promise.race([new Promise((resolve) => setTimeout(resolve, waitMs)), this.over]);
      }
    }
  }

  /** Whether it was sent. While the conversation moves, questions are not, and other controls are kept for the new machine. */
  send(control) {
    if (this.channel?.readyState === "open") { this.channel.send(JSON.stringify({ v: VERSION, ...control })); return true; }
    if (this.phase === "talking" && !["say", "ping"].includes(control.type)) this.held.push(control);
    return false;
  }

  /** Asks in writing; whether it is on its way: then it is sent again, should connection or machine be lost. */
  ask(text) {
    const there = this.channel?.readyState === "open";
    if (this.phase !== "talking" || !there) return false;
    this.questions.set(crypto.getRandomValues(new Uint32Array(3)).join("-"), { text, state: "kept" });
    if (this.questions.size > MOST_KEPT) this.questions.delete(this.questions.keys().next().value);
    if (this.greeted === this.channel) this.#ask(({ state }) => state === "kept");
    return true;
  }

  /** Sends those of the questions, in their order. */
  #ask(which) {
    for (const [id, question] of this.questions) {
      if (!which(question, id)) continue;
      question.state = "sent";
      this.send({ type: "say", id, text: question.text });
    }
  }

  /** What an event says of the questions. */
  #follow(event) {
    if (event.type === "hello") {
      this.greeted = this.channel;
      for (const id of event.known ?? []) if (this.questions.has(id)) this.questions.get(id).state = "known";
      this.#ask(({ state }, id) => state === "kept" || (event.known && !event.known.includes(id)));
    } else if (event.type === "caption" && this.questions.has(event.id)) this.questions.get(event.id).state = "known";
    else if (event.type === "state" && event.state === "listening") {
      for (const [id, { state }] of this.questions) if (state === "known") this.questions.delete(id);
    }
  }

  /** Another microphone or camera, in the middle of it. */
  async replace(kind, track) {
    const sender = kind === "video" ? this.videoSender : this.audioSender;
    if (kind === "audio" && track) this.stream = new MediaStream([track, ...(this.stream?.getVideoTracks() ?? [])]);
    await sender?.replaceTrack(track);
  }

  end() {
    if (this.phase === "ended" || this.phase === "idle") return;
    this.#phase("ended");
    this.#leave();
    this.#hangUp();
  }

  #leave() {
    if (!this.resume) return;
    fetch(`sessions/${this.resume.session}?key=${encodeURIComponent(this.resume.key)}`, { method: "DELETE", headers: this.#headers(), keepalive: true }).catch(() => {});
  }

  #headers() {
    return { "Content-Type": "application/json", ...(this.token && { Authorization: `Bearer ${this.token}` }) };
  }

  #phase(phase) {
    if (this.phase !== phase) { this.phase = phase; this.dispatchEvent(new CustomEvent("phase", { detail: phase })); }
  }

  async #connect() {
    const peer = new RTCPeerConnection({ iceServers: this.config.iceServers ?? [], bundlePolicy: "max-bundle" });
    this.peer = peer;
    const channel = peer.createDataChannel("events");
    this.channel = channel;
    const audio = this.stream?.getAudioTracks()[0];
    this.audioSender = peer.addTransceiver(audio ?? "audio", { direction: "sendrecv", streams: audio ? [this.stream] : [] }).sender;
    if (this.config.video) {
      const video = this.stream?.getVideoTracks()[0];
      this.videoSender = peer.addTransceiver(video ?? "video", { direction: "sendrecv" }).sender;
    }
    peer.addEventListener("track", ({ track, receiver }) => {
      if ("jitterBufferTarget" in receiver && track.kind === "audio") receiver.jitterBufferTarget = 20;
      for (const old of this.remote.getTracks()) if (old.kind === track.kind) this.remote.removeTrack(old);
      this.remote.addTrack(track);
      this.dispatchEvent(new CustomEvent("remote", { detail: track }));
    });
    channel.addEventListener("message", ({ data }) => this.#message(data));
    let opened = false;
    channel.addEventListener("open", () => { opened = true; }, { once: true });
    const greeted = new Promise((resolve, reject) => { this.greet = (event) => {
      if (event.type === "hello") resolve(); else reject(new CallError(event.code, event.message));
    }; });
    greeted.catch(() => {});
    const failed = new Promise((_, reject) => peer.addEventListener("connectionstatechange", () => {
      if (peer !== this.peer) return;
      if (peer.connectionState === "failed") { reject(new CallError("no-path")); this.#lost(); }
    }));
    failed.catch(() => {});
    peer.addEventListener("iceconnectionstatechange", () => {
      if (peer === this.peer && peer.iceConnectionState === "disconnected") this.#lost();
    });

    const late = [];
    let trickle = (candidate) => late.push(candidate);
    peer.addEventListener("icecandidate", ({ candidate }) => candidate?.candidate && trickle(candidate));
    await peer.setLocalDescription(await peer.createOffer());
    await firstCandidate(peer, 1500);
    late.length = 0; // what was found so far is in the offer
    let response;
    try {
      response = await fetch("offer", { method: "POST", headers: this.#headers(), body: JSON.stringify({ sdp: peer.localDescription.sdp, ...this.resume }) });
    } catch {
      peer.close();
      throw new CallError("unreachable");
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) { peer.close(); throw new CallError(answer.error ?? "unreachable", answer.message, waitOf(response)); }
    this.resume = { session: answer.session, key: answer.key };
    if (this.phase === "ended") { this.#leave(); throw new CallError("hung-up"); } // while the server was asked
    await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    trickle = (candidate) => this.#trickle(candidate);
    late.forEach(trickle);
    let looking;
    const never = new Promise((_, reject) => {
      const began = performance.now();
      looking = setInterval(async () => {
        if (opened) return;
        if (performance.now() - began > 12000) reject(new CallError("no-path"));
        else if (!(await this.#known()).known) reject(new CallError("gone"));
      }, LOOK_MS);
    });
    never.catch(() => {});
    try { await Promise.race([greeted, failed, never, this.over]); } finally { clearInterval(looking); }
    for (const control of this.held.splice(0)) this.send(control);
    this.#phase("talking");
    this.#beat(peer);
  }

  /** Asks the server for a sign of life twice a second: it may be gone long before the connection notices. */
  #beat(peer) {
    let asked = performance.now();
    this.answered = asked;
    const timer = setInterval(() => {
      if (peer !== this.peer || this.phase !== "talking") { clearInterval(timer); this.#stall(false); return; }
      const now = performance.now();
      if (now - asked > 3 * BEAT_MS) this.answered = now; // the page itself stood still
      asked = now;
      this.send({ type: "ping", t: now });
      this.#stall(now - this.answered > SILENT_MS);
      if (this.stalled) this.#lookAfter();
    }, BEAT_MS);
  }

  /** The machine that the conversation was on may be gone while the server is there, and brings it back elsewhere. */
  async #lookAfter() {
    if (this.asking || !this.resume) return;
    this.asking = true;
    try { if (!(await this.#known()).stands && this.stalled) this.#lost(); } finally { this.asking = false; }
  }

  /** Whether the server has the conversation, and where we are connected, as far as it says. */
  async #known() {
    try {
      const { session, key } = this.resume;
      const response = await fetch(`sessions/${session}?key=${encodeURIComponent(key)}`, { headers: this.#headers() });
      const { stands } = await response.json();
      const known = response.status !== 404;
      return { known, stands: known && stands !== false };
    } catch { return { known: true, stands: true }; } // it does not answer either: it may be busy, and the connection says when it is gone
  }

  /** The conversation moves to another machine: connect to it there, then let go of this one. */
  async #move() {
    const before = this.peer;
    const connected = this.#connect();
    const next = this.peer;
    try { await connected; } catch {
      if (this.phase !== "talking" || this.peer !== next) { before?.close(); return; } // ended meanwhile, or coming back already
      this.#hangUp();
      this.peer = before;
      this.#lost();
      return;
    }
    before?.close();
    this.dispatchEvent(new CustomEvent("moved"));
  }

  #stall(stalled) {
    if (this.stalled !== stalled) { this.stalled = stalled; this.dispatchEvent(new CustomEvent("stall", { detail: stalled })); }
  }

  #trickle(candidate) {
    const fragment = `m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:${candidate.sdpMid ?? 0}\r\na=${candidate.candidate}\r\n`;
    const headers = { ...this.#headers(), "Content-Type": "application/trickle-ice-sdpfrag" };
    fetch(`sessions/${this.resume.session}?key=${encodeURIComponent(this.resume.key)}`, { method: "PATCH", headers, body: fragment }).catch(() => {});
  }

  #message(data) {
    let event;
    try { event = JSON.parse(data); } catch { return; }
    if (event.v !== VERSION) return;
    if (event.type === "pong") { this.answered = performance.now(); this.#stall(false); return; }
    if (["hello", "bye"].includes(event.type)) this.greet(event);
    if (event.type === "bye" && this.phase === "connecting") return; // nothing has begun: `start` says why
    if (event.type === "bye") { this.#phase("ended"); this.#hangUp(); }
    this.#follow(event);
    this.dispatchEvent(new CustomEvent("event", { detail: event }));
    if (event.type === "limits") this.#limit(event).catch(() => {});
    if (event.type === "reconnect") this.#move();
  }

  /** Send no more video than the machine needs: what a browser lets a page decide about its encoder. */
  async #limit({ bitrate_bps, rate, scale }) {
    const parameters = this.videoSender?.getParameters();
    const encoding = parameters?.encodings?.[0];
    if (!encoding) return;
    if (bitrate_bps) encoding.maxBitrate = bitrate_bps;
    if (rate) encoding.maxFramerate = rate;
    if (scale) encoding.scaleResolutionDownBy = Math.max(1, 1 / scale);
    await this.videoSender.setParameters(parameters);
  }

  async #lost() {
    if (this.phase !== "talking") return;
    this.#phase("away");
    this.dispatchEvent(new CustomEvent("trouble", { detail: { code: "away" } }));
    const until = Date.now() + 1000 * (this.config.resume_s ?? 60);
    let code = "gone";
    for (let i = 0; Date.now() < until && this.phase === "away"; i++) {
      this.#hangUp();
      try { await this.#connect(); return; } catch (error) {
        if (error.code === "gone") { code = "restarted"; break; }
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(i, RETRY_MS.length - 1)]));
    }
    if (this.phase === "away") {
      this.#phase("ended");
      this.dispatchEvent(new CustomEvent("trouble", { detail: { code } }));
    }
  }

  #hangUp() {
    const peer = this.peer;
    this.peer = null;
    peer?.close();
  }
}

/** After how long a refusal says to try again, ms. */
function waitOf(response) {
  const seconds = Number(response.headers.get("Retry-After") || 1);
  return 1000 * Math.min(10, Math.max(0.2, seconds || 1));
}

/** Until there is a candidate to begin with; the others are sent after the offer. */
function firstCandidate(peer, ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
    peer.addEventListener("icecandidate", () => setTimeout(resolve, 50), { once: true });
  });
}
