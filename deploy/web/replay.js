// Answers heard again: the page keeps their sound, a bounded amount of it, and nothing leaves the browser.

const RATE = 24000; // about; a whole share of the browser's
const MOST_BYTES = 16e6;
const MOST_OF_ONE = 8e6; // 160 s
const TAIL_MS = 400; // what is still on its way to the ear when the server has played the last of it
const AUDIBLE = 0.004;
const MARGIN = RATE / 20;
const CUE = "m7 4 13 8-13 8z";
const STOP = "M7 7h10v10H7z";

/** Keeps what is heard between `begin` and `end`. Events: `kept` and `dropped` (detail: the answer they were called with). */
export class Replay extends EventTarget {
  constructor(most = MOST_BYTES) {
    super();
    this.most = most;
    this.kept = new Map();
    this.bytes = 0;
    this.parts = [];
    this.answer = null;
    this.length = 0;
    this.number = 0;
    this.player = new Audio();
    this.playing = null;
    for (const over of ["ended", "error"]) this.player.addEventListener(over, () => this.stop());
  }

  /** Gets ready. Where the browser has no worklets, as on pages that are not secure, nothing is kept. */
  async listen() {
    if (this.context || !window.AudioWorkletNode) return;
    this.context = new AudioContext();
    const every = Math.max(1, Math.round(this.context.sampleRate / RATE));
    this.rate = Math.round(this.context.sampleRate / every);
    try {
      await this.context.audioWorklet.addModule("web/tap.js");
      this.tap = new AudioWorkletNode(this.context, "tap", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit", processorOptions: { every } });
      this.tap.port.onmessage = ({ data }) => this.#take(data);
    } catch { this.tap = null; }
  }

  /** What the page plays now comes from another connection. */
  attach(stream) {
    if (!this.tap || !stream.getAudioTracks().length) return;
    this.source?.disconnect();
    this.source = this.context.createMediaStreamSource(new MediaStream(stream.getAudioTracks()));
    this.source.connect(this.tap);
    this.context.resume().catch(() => {});
  }

  begin(answer) {
    if (!this.tap || this.answer === answer) return;
    this.stop();
    clearTimeout(this.ending);
    if (this.answer) this.#keep();
    this.answer = answer;
    this.number += 1;
    this.tap.port.postMessage(this.number);
  }

  end(answer) {
    if (this.answer !== answer || !this.tap) return;
    clearTimeout(this.ending);
    this.ending = setTimeout(() => this.tap.port.postMessage(0), TAIL_MS);
  }

  /** Plays an answer again, or stops if it is being played. Resolves to whether it plays. */
  async toggle(answer) {
    const before = this.playing;
    this.stop();
    if (before === answer || !this.kept.has(answer)) return false;
    this.playing = answer;
    this.address = URL.createObjectURL(this.kept.get(answer));
    this.player.src = this.address;
    this.#say("playing");
    try { await this.player.play(); } catch { this.stop(); }
    return this.playing === answer;
  }

  stop() {
    if (!this.playing) return;
    const answer = this.playing;
    this.playing = null;
    this.player.pause();
    URL.revokeObjectURL(this.address);
    this.#say("stopped", answer);
  }

  /** Keeps the sound of no answers but `these`. */
  forget(these) {
    for (const answer of [...this.kept.keys()]) if (!these.includes(answer)) this.#drop(answer);
  }

  #take({ number, samples, last }) {
    if (!this.answer || number !== this.number) return;
    if (this.length * 2 < Math.min(MOST_OF_ONE, this.most)) {
      this.parts.push(samples);
      this.length += samples.length;
    }
    if (last) this.#keep();
  }

  #keep() {
    const { answer, parts } = this;
    this.answer = null;
    this.parts = [];
    this.length = 0;
    const sound = answer && trimmed(parts);
    if (!sound) return;
    this.kept.set(answer, wav(sound, this.rate));
    this.bytes += this.kept.get(answer).size;
    while (this.bytes > this.most) this.#drop(this.kept.keys().next().value);
    if (this.kept.has(answer)) this.#say("kept", answer);
  }

  #drop(answer) {
    if (this.playing === answer) this.stop();
    this.bytes -= this.kept.get(answer).size;
    this.kept.delete(answer);
    this.#say("dropped", answer);
  }

  #say(what, answer = this.playing) { this.dispatchEvent(new CustomEvent(what, { detail: answer })); }
}

/** Without the silence before and behind it; null: there is nothing else. */
function trimmed(parts) {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => { all.set(part, at); return at + part.length; }, 0);
  const first = all.findIndex((sample) => Math.abs(sample) > AUDIBLE);
  if (first < 0) return null;
  const last = all.findLastIndex((sample) => Math.abs(sample) > AUDIBLE);
  return all.subarray(Math.max(0, first - MARGIN), last + MARGIN);
}

/** Mono, 16 bits. */
function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const put = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  put(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); put(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  put(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([view.buffer], { type: "audio/wav" });
}

/** The button beside an answer. */
export function replayButton() {
  const button = document.createElement("button");
  button.className = "again";
  button.hidden = true;
  button.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true"><path/></svg>';
  showPlaying(button, false);
  return button;
}

export function showPlaying(button, playing) {
  button.setAttribute("aria-label", playing ? "Stop" : "Hear this answer again");
  button.title = button.getAttribute("aria-label");
  button.querySelector("path").setAttribute("d", playing ? STOP : CUE);
}
