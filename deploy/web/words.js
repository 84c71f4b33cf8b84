// What the page says about a conversation as a whole: how it stands, and what is kept of it.

export const STATES = { listening: "Listening", hearing: "I hear you …", thinking: "Thinking …", speaking: "Speaking. Speak to interrupt", held: "Yes? …" };
export const WRITTEN = { ...STATES, listening: "Write your question", speaking: "Answering. Stop with the button or Esc" };
export const PHASES = { idle: "Ready when you are", connecting: "Connecting …", away: "Waiting for the network …", ended: "The conversation has ended" };

/** What of the conversation stays here once it is over: people read it before they press the button, and while they talk. */
export function keptOf({ keeps, keepsNothing }) {
  if (keeps.length) return `Of this conversation is kept: ${keeps.map(({ stage, what }) => `${what} (${stage})`).join("; ")}. By starting you agree to that.`;
  return keepsNothing ? "Nothing of this conversation is kept." : "";
}

/** A delay as people read it: 480 ms, 6.5 s. */
export function delay(ms) {
  return Math.round(ms) < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
