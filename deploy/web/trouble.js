// Every way it can fail for a person: a sentence that says so, and what the button under it does.

export const MOST_ASKED = 2000; // characters of a question in writing: the server takes no more
const TROUBLE = {
  "insecure": ["Browsers give the microphone only to pages over HTTPS. Open this page with https://, or from the machine it runs on.", null],
  "no-webrtc": ["This browser has no WebRTC. A current Firefox, Chrome, Edge or Safari has.", null],
  "no-microphone": ["No microphone was found. Plug one in, or write your question instead.", ["Try again", "speak"]],
  "microphone-refused": ["The microphone was not allowed. Allow it in the address bar (the lock or camera symbol), then try again. You can also write your question.", ["Try again", "speak"]],
  "microphone-busy": ["Another program holds the microphone. Close it there, then try again.", ["Try again", "speak"]],
  "microphone-gone": ["The microphone was unplugged. Plug it in, or choose another one.", ["Start again", "start"]],
  "no-camera": ["The camera could not be opened, so it stays off. Talking works without it.", null],
  "kept": ["This server keeps something of what is said, and this page did not say so before. Read below what it is, then start.", ["Start", "start"]],
  "busy": ["Everybody here is talking already. It is usually a matter of a minute.", ["Try again", "start"]],
  "connecting": ["Many are connecting just now. Trying again …", null],
  "crowd": ["Many are connecting just now, and there was no room for half a minute.", ["Try again", "start"]],
  "too-many": ["There are already several conversations from your address. End one of them, then try again.", ["Try again", "start"]],
  "too-often": ["That was a lot of tries in a short time. Wait a moment.", ["Try again", "start"]],
  "draining": ["The server is being restarted. Try again in a minute.", ["Try again", "start"]],
  "token": ["This server wants a token. Ask whoever runs it, and enter it under Settings.", ["Enter the token", "settings"]],
  "origin": ["This page comes from an address the server does not accept. Open the server's own page.", null],
  "no-pipeline": ["The server is up, but a part of its pipeline could not be loaded.", ["Try again", "start"]],
  "unreachable": ["The server does not answer. Check that it runs and that you are online.", ["Try again", "start"]],
  "no-path": ["Server and browser found no way to each other: a firewall or NAT is in between. The operator can add a TURN server (`thalweg doctor webrtc` says more).", ["Try again", "start"]],
  "stalled": ["Nothing comes from the server at the moment. Waiting for it …", null],
  "away": ["The server does not answer, or the network is gone. Coming back as soon as it is there; the conversation is kept.", null],
  "restarted": ["The server was started anew and no longer has the conversation. What was said stays on this page.", ["Start a new one", "start"]],
  "closing": ["The server is about to stop: this conversation ends within half a minute. Come back in a minute.", null],
  "gone": ["The connection was lost for too long, and the conversation has ended.", ["Start a new one", "start"]],
  "silent": ["The microphone gives nothing but silence. It may be muted, or the wrong one.", ["Choose another", "settings"]],
  "sound-blocked": ["The browser keeps the page silent until you click.", ["Turn sound on", "sound"]],
  "too-long": ["At most 2,000 characters go at once: shorten it, or send it in parts.", null],
  "bad-offer": ["Server and browser could not agree on how to talk.", ["Try again", "start"]],
};

/** The sentence for a code, with what the server said where we have nothing better, and a way on; none that would end a
 * conversation that is `going` on. */
export function explain(code, said = "", going = false) {
  const [sentence, way] = TROUBLE[code] ?? [said || `Something went wrong (${code}).`, going ? null : ["Try again", "start"]];
  const detail = ["no-pipeline", "bad-offer", "too-long"].includes(code) ? ` ${said}` : "";
  return { sentence: sentence + detail, way };
}

/** The code for what getUserMedia threw. */
export function microphoneTrouble(error) {
  return { NotAllowedError: "microphone-refused", SecurityError: "microphone-refused", NotFoundError: "no-microphone",
    OverconstrainedError: "no-microphone", NotReadableError: "microphone-busy", AbortError: "microphone-busy" }[error.name] ?? "no-microphone";
}

/** `found`: what `explain` gave. */
export function showNotice(notice, { sentence, way }, code) {
  const [text, act] = [notice.querySelector("p"), notice.querySelector("button")];
  text.textContent = sentence;
  notice.dataset.code = code;
  notice.hidden = false;
  act.hidden = !way;
  if (way) { act.textContent = way[0]; act.dataset.act = way[1]; }
}

/** Hides it; somebody who was in it by keyboard goes on in `next`. */
export function hide(part, next) {
  const within = part.contains(document.activeElement);
  part.hidden = true;
  if (within) next.focus({ preventScroll: true });
}
