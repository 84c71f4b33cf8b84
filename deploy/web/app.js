// The page: one button, what is said, what went wrong, and a look inside.

import { Call, CallError } from "./call.js";
import { cameraWish, listDevices, openDevices } from "./devices.js";
import { offerHolding } from "./holding.js";
import { measureLevel, showLevel } from "./level.js";
import { Marks, Softened } from "./look.js";
import { Memory } from "./memory.js";
import { Preferences } from "./preferences.js";
import { Replay } from "./replay.js";
import { offerSaving } from "./saving.js";
import { Timeline } from "./timeline.js";
import { MOST_ASKED, explain, hide, showNotice } from "./trouble.js";
import { Turns } from "./turns.js";
import { PHASES, STATES, WRITTEN, delay, keptOf } from "./words.js";
import { Writing } from "./writing.js";

const $ = (id) => document.getElementById(id);
const UNTIL_WRITTEN = ["no-microphone", "microphone-refused", "microphone-busy", "insecure", "too-long", "bad-message"];

const replay = new Replay();
const turns = new Turns($("turns"), $("talk"), $("said"), hearAgain);
const preferences = new Preferences($("preferences"), (control) => call?.send(control));
const writing = new Writing($("write"), ask);
const memory = new Memory({
  place: $("memory"),
  controls: {
    volume: $("volume"), hold: $("hold"), echo: $("echo"), keepSaid: $("keep-said"),
    microphone: $("microphones"), speaker: $("speakers"), camera: $("cameras"),
  },
  preferences, turns, forgotten,
});
const timeline = new Timeline($("timeline"), $("stages").tBodies[0]);
const marks = new Marks($("marks"), $("look-words"));
let softened = null;
let config = null;
let call = null;
let attempt = null; // to begin a conversation, until there is a `call` of it
let stream = null;
let meter = null;
let inWriting = false; // how the last conversation was begun: then it begins again without a microphone
let unsent = ""; // what was written and could not be sent

async function loadConfig() {
  const token = $("token").value;
  const response = await fetch("config", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  config = await response.json();
  $("name").textContent = config.name;
  document.title = config.name;
  $("description").textContent = config.description;
  $("kept").textContent = keptOf(config);
  $("kept").dataset.kept = config.keeps.length > 0;
  $("token-row").hidden = !config.token;
  memory.open(config.keepsNothing);
  preferences.offer(config.preferences ?? []);
  if (turns.said.length) { hide($("welcome"), $("talk")); $("save-button").disabled = false; }
  $("camera").hidden = $("cameras-row").hidden = !config.video;
}

/** Connects; `written`: without asking for the microphone. */
async function start(written = false) {
  hideNotice();
  if (attempt || (call && !["idle", "ended"].includes(call.phase))) return;
  const mine = attempt = {}, wanted = () => attempt === mine;
  inWriting = written;
  setPhase("connecting");
  let made = null;
  try {
    if (!window.RTCPeerConnection) throw new CallError("no-webrtc");
    const told = $("kept").textContent;
    await loadConfig().catch(() => { throw new CallError("unreachable"); });
    if (!wanted()) return;
    if (config.keeps.length && $("kept").textContent !== told) throw new CallError("kept"); // nobody has agreed to that yet
    const missing = written ? null : await openMicrophone(wanted);
    if (!wanted()) return;
    attempt = null;
    call = made = new Call({ config, token: $("token").value });
    listen(call);
    $("voice").srcObject = call.remote;
    turns.begin();
    await call.start(stream);
    changeDevices(false); // the speaker may be one that was chosen before
    hide($("welcome"), $("talk"));
    $("voice").play().catch(({ name }) => name === "NotAllowedError" && showTrouble("sound-blocked"));
    if (missing) showTrouble(missing);
    call.send({ type: "echo", cancelled: $("echo").checked });
    if (!$("inside").hidden) call.send({ type: "watch", on: true });
  } catch (error) {
    if (made ? made !== call || made.phase === "ended" : !wanted()) return; // the person ended it, and may have begun anew
    attempt = null;
    made?.end();
    closeMicrophone();
    setPhase("idle");
    showTrouble(error.code ?? "unreachable", error.message);
  }
}

/** Ends the conversation, or the attempt to begin one. */
function end() {
  if (!attempt) { call?.end(); return; }
  attempt = null;
  closeMicrophone();
  setPhase("idle");
}

/** Asks in writing; whoever has not begun does so by it, and needs no microphone. */
async function ask(text) {
  const letters = [...text].length;
  if (letters > MOST_ASKED) { writing.text = text; showTrouble("too-long", `It has ${letters.toLocaleString("en")}.`); return; }
  if (!call || ["idle", "ended"].includes(call.phase)) await start(true);
  if (call?.phase === "talking" && !call.stalled && call.ask(text)) {
    unsent = "";
    if (shown(...UNTIL_WRITTEN)) hideNotice();
    return;
  }
  unsent = writing.text ||= text;
  if (call?.stalled) showTrouble("stalled");
}

/** Sends what was written and could not be sent, unless it was changed since; whether there was such. */
function sendUnsent() {
  const found = unsent && writing.text === unsent;
  if (found) writing.submit();
  return found;
}

/** Adds the microphone to a conversation that was written so far. */
async function speak() {
  if (call?.phase !== "talking") { start(); return; }
  const missing = await openMicrophone();
  if (missing) { showTrouble(missing); return; }
  inWriting = false;
  await call.replace("audio", stream.getAudioTracks()[0]);
  call.send({ type: "echo", cancelled: $("echo").checked });
  setPhase(call.phase);
}

/** Whether a conversation goes on, asked later. */
const goesOn = (current) => () => current === call && current.phase !== "ended";

/** Opens the microphone; returns the trouble where there is none and the conversation has to be written. It is closed at
 * once where it is no longer `wanted` when it opens. */
async function openMicrophone(wanted = goesOn(call)) {
  closeMicrophone();
  if (!navigator.mediaDevices) return "insecure";
  const cancel = $("echo").checked;
  const audio = { echoCancellation: cancel, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
  if ($("microphones").value) audio.deviceId = { ideal: $("microphones").value };
  const video = $("camera").getAttribute("aria-pressed") === "true" && cameraWish($("cameras").value);
  const { opened, trouble } = await openDevices(audio, video, wanted);
  const blind = video && trouble !== "hung-up" && !opened?.getVideoTracks().length;
  if (blind) $("camera").setAttribute("aria-pressed", "false");
  if (trouble) return trouble;
  if (blind) showTrouble("no-camera");
  stream = opened;
  stream.getAudioTracks()[0].addEventListener("ended", () => call?.phase === "talking" && showTrouble("microphone-gone"));
  showPreview();
  meter = measureLevel(stream, { heard, silent, excused: () => stream?.getAudioTracks().some((track) => !track.enabled) });
  listDevices({ audioinput: $("microphones"), audiooutput: $("speakers"), videoinput: $("cameras") });
  return null;
}

function closeMicrophone() {
  sendSharp();
  meter?.stop();
  meter = null;
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("preview").hidden = true;
}

function showPreview() {
  const on = Boolean(stream?.getVideoTracks().length);
  $("preview").hidden = !on;
  $("preview").srcObject = on ? stream : null;
  if (on) $("preview").play().catch(() => {});
}

function listen(current) {
  current.addEventListener("phase", ({ detail }) => {
    if (current !== call) return;
    setPhase(detail);
    if (detail === "talking") { hideNotice(); sendUnsent(); } else sendSharp();
    if (detail === "ended") {
      if (shown("away", "stalled")) hideNotice(); // it does not come back
      closeMicrophone();
      turns.over();
      $("seen").hidden = true;
    }
  });
  current.addEventListener("remote", ({ detail: track }) => {
    if (current !== call) return;
    if (track.kind === "audio") { replay.listen().then(() => replay.attach(current.remote)); return; }
    $("screen").srcObject = new MediaStream([track]);
    track.addEventListener("unmute", () => { $("seen").hidden = false; $("screen").play().catch(() => {}); });
  });
  current.addEventListener("stall", ({ detail }) => {
    if (current !== call) return;
    if (detail && !shown("closing")) showTrouble("stalled"); else if (shown("stalled")) hideNotice();
    if (!detail && current.phase === "talking") sendUnsent();
  });
  current.addEventListener("moved", () => current === call && sendUnsent());
  current.addEventListener("trouble", ({ detail }) => current === call && showTrouble(detail.code, detail.message));
  current.addEventListener("event", ({ detail }) => current === call && tell(detail));
}

function tell(event) {
  switch (event.type) {
    case "caption": turns.caption(event); break;
    case "answer": turns.answer(event); break;
    case "answered": turns.answered(event); break;
    case "hello": preferences.again(); break;
    case "preferred": preferences.preferred(event); break;
    case "heard": replay.end(turns.heard(event)); break;
    case "dismissed": turns.dismissed(event); break;
    case "latency":
      turns.latency(event);
      $("latency-value").textContent = delay(event.played_ms);
      $("latency").hidden = false;
      break;
    case "state":
      document.body.dataset.floor = event.state;
      $("state").textContent = states()[event.state];
      $("stop").disabled = !["thinking", "speaking", "held"].includes(event.state);
      if (event.state === "hearing") turns.hearing(event.turn);
      if (event.state === "thinking") turns.thinking(event.turn);
      if (event.state === "speaking") replay.begin(turns.speaking(event.turn));
      timeline.mark(event.state);
      break;
    case "stats": timeline.add(event); break;
    case "look": look(event); break;
    case "limits": if (softened && event.rate) softened.rate = event.rate; break;
    case "trouble": trouble(event); break;
    case "bye": showTrouble(event.code, event.message); break;
  }
}

function trouble(event) {
  if (event.turn) turns.trouble(event);
  else if (["not-set", "not-offered"].includes(event.code)) preferences.refused(event.message);
  else showTrouble(event.code, event.message);
}

/** Shows where the machine looks and, where it asks for that, sends a picture that is sharp only there. */
function look({ boxes, soften }) {
  const camera = stream?.getVideoTracks()[0];
  // Where the link gets narrow, rather fewer pictures than such in which nothing can be read.
  if (camera) camera.contentHint = "detail";
  marks.show(camera ? boxes : []);
  $("look-button").hidden = !camera;
  // A page that is not seen draws nothing, and its canvas would stand still.
  if (!soften || !camera || document.hidden) { sendSharp(); return; }
  if (!softened) {
    softened = new Softened(camera);
    call?.replace("video", softened.track);
  }
  softened.boxes = boxes;
}

/** Sends the camera's own picture again. */
function sendSharp() {
  if (!softened) return;
  softened.stop();
  softened = null;
  call?.replace("video", stream?.getVideoTracks()[0] ?? null);
}

function setPhase(phase) {
  document.body.dataset.phase = phase;
  const talking = phase === "talking";
  if (!talking) document.body.dataset.floor = "";
  $("state").textContent = talking ? states().listening : PHASES[phase];
  const going = !["idle", "ended"].includes(phase);
  [$("start-name").textContent, $("start-label").textContent] = going ? ["End the conversation", "End"] : ["Start talking", "Start talking"];
  writing.disabled = ["connecting", "away"].includes(phase);
  $("speak").hidden = !talking || Boolean(stream);
  $("mute").hidden = talking && !stream;
  $("mute").disabled = !talking || !stream;
  $("save-button").disabled = !turns.said.length && !talking;
  if (!talking) $("stop").disabled = true;
  if (phase === "idle" || phase === "ended") setMuted(false);
  if (talking && $("hold").checked) setMuted(true);
}

function states() { return stream ? STATES : WRITTEN; }
function showTrouble(code, said) { if (code !== "hung-up") showNotice($("notice"), explain(code, said, call?.phase === "talking"), code); }
function shown(...codes) { return !$("notice").hidden && codes.includes($("notice").dataset.code); }
function hideNotice() { hide($("notice"), $("talk")); }

function setMuted(muted) {
  $("mute").setAttribute("aria-pressed", muted);
  hear();
}

/** An answer that is heard at the moment stops for one that is to be heard again. */
function hearAgain(answer) {
  if (document.body.dataset.floor === "speaking") call?.send({ type: "stop" });
  replay.toggle(answer);
}

/** The microphone hears what is said, unless it is muted or would hear an answer that is played again. */
function hear() {
  const off = replay.playing || $("mute").getAttribute("aria-pressed") === "true";
  stream?.getAudioTracks().forEach((track) => { track.enabled = !off; });
}

/** Nothing of earlier conversations is left in the browser or on the page. */
function forgotten() {
  replay.forget(turns.all);
  $("told").textContent = "Forgotten";
  if (turns.all.length || document.body.dataset.phase === "talking") return;
  $("welcome").hidden = false;
  $("save-button").disabled = true;
}

/** Moves the ring around the button with the voice; null: there is no microphone. */
function heard(level) {
  $("start").style.setProperty("--level", Math.min(1, (level ?? 0) * 6).toFixed(3));
  if ($("settings").open || level === null) showLevel($("level"), $("level-value"), level);
  if (level > 0 && shown("silent")) hideNotice();
}

/** It gives nothing: said while somebody talks. */
function silent() {
  if (call?.phase !== "talking") return false;
  showTrouble("silent");
  return true;
}

/** Which devices are wanted, and how. */
const devices = () => [$("microphones").value, $("cameras").value, $("echo").checked].join();
let before = devices();

function openSettings() {
  before = devices();
  $("settings").showModal();
}

async function changeDevices(others = true) {
  for (const player of $("speakers").value ? [$("voice"), replay.player] : []) await player.setSinkId?.($("speakers").value).catch(() => {});
  if (!others || !stream || call?.phase !== "talking") return;
  const trouble = await openMicrophone();
  if (trouble) { showTrouble(trouble); return; }
  await call.replace("audio", stream.getAudioTracks()[0]);
  if (config.video) await call.replace("video", stream.getVideoTracks()[0] ?? null);
  call.send({ type: "echo", cancelled: $("echo").checked });
}

$("start").addEventListener("click", () => { if (document.body.dataset.phase === "idle" || document.body.dataset.phase === "ended") start(); else end(); });
$("speak").addEventListener("click", speak);
$("ideas").addEventListener("click", ({ target }) => target.closest("button") && ask(target.textContent));
offerSaving($("save-button"), $("saving"), $("told"), () => [config?.name ?? "", turns.said]);
$("stop").addEventListener("click", () => call?.send({ type: "stop" }));
$("mute").addEventListener("click", () => $("hold").checked || setMuted($("mute").getAttribute("aria-pressed") !== "true"));
offerHolding({ chosen: $("hold"), button: $("mute"), talking: () => call?.phase === "talking" && stream, mute: setMuted });
$("volume").addEventListener("input", () => {
  $("voice").volume = replay.player.volume = $("volume").value / 100;
  $("volume-value").textContent = `${$("volume").value} %`;
});
for (const [event, is] of [["kept", { kept: true }], ["dropped", { kept: false }], ["playing", { playing: true }], ["stopped", { playing: false }]]) {
  replay.addEventListener(event, ({ detail }) => { turns.replay(detail, is); hear(); });
}
$("camera").addEventListener("click", () => {
  $("camera").setAttribute("aria-pressed", $("camera").getAttribute("aria-pressed") !== "true");
  changeDevices();
});
$("look-button").addEventListener("click", () => {
  const on = $("look-button").getAttribute("aria-pressed") !== "true";
  $("look-button").setAttribute("aria-pressed", on);
  marks.turn(on);
});
document.addEventListener("visibilitychange", () => document.hidden && sendSharp());
$("inside-button").addEventListener("click", () => {
  const open = $("inside").hidden;
  $("inside").hidden = !open;
  $("inside-button").setAttribute("aria-expanded", open);
  call?.send({ type: "watch", on: open });
  timeline.run(open);
});
$("settings-button").addEventListener("click", openSettings);
$("settings").addEventListener("close", () => changeDevices(devices() !== before));
$("notice-close").addEventListener("click", hideNotice);
$("notice-act").addEventListener("click", () => {
  const act = $("notice-act").dataset.act;
  hideNotice();
  if (act === "start") { call?.end(); if (!sendUnsent()) start(inWriting); }
  if (act === "speak") speak();
  if (act === "settings") openSettings();
  if (act === "sound") $("voice").play();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && replay.playing) { replay.stop(); return; }
  if (event.key === "Escape" && !$("stop").disabled && !$("settings").open) call?.send({ type: "stop" });
});
addEventListener("pagehide", () => { end(); memory.keep(); });
addEventListener("beforeunload", (event) => { if (call?.phase === "talking" && turns.said.length) event.preventDefault(); });

if (!window.isSecureContext) showTrouble("insecure");
loadConfig().catch(() => showTrouble("unreachable"));
