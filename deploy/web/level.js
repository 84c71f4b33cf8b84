// How loud the microphone is: for the ring around the button, the meter, and to notice one that gives nothing.

const EVERY_MS = 60;
const SILENT_MS = 12_000;
const QUIET_DB = -60;

/** Calls `heard(level)` with the mean of the last samples (RMS); where in twelve seconds there was nothing at all, though
 * nothing excuses that, `silent()` until it gives true. */
export function measureLevel(stream, { heard, silent, excused }) {
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 512 });
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const began = performance.now();
  let alive = false;
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const level = Math.sqrt(samples.reduce((sum, s) => sum + s * s, 0) / samples.length);
    heard(level);
    if (level > 0 || context.state !== "running" || excused()) alive = true;
    if (!alive && performance.now() - began > SILENT_MS) alive = silent();
  }, EVERY_MS);
  return { stop() { clearInterval(timer); context.close(); heard(null); } };
}

/** In numbers: dB below full scale; null: there is no microphone. */
export function showLevel(meter, output, level) {
  const db = Math.max(QUIET_DB, Math.round(20 * Math.log10(level || 1e-9)));
  meter.value = level === null ? QUIET_DB : db;
  output.textContent = level === null ? "off" : `${db} dB`;
}
