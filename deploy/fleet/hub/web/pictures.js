// The newest picture of each stream, drawn on a canvas. Pixels are copied; encoded video is decoded by the browser, which
// does that on pages that it takes to be secure: over HTTPS, or on this machine.
import { $, clock, make } from './dom.js';

const CODECS = { h264: avc, vp8: () => 'vp8', vp9: () => 'vp09.00.10.08' };
const shown = new Map();
let whose = '';

export function showPictures(node, pictures) {
  if (whose !== node) { whose = node; shown.clear(); }
  const box = $('pictures');
  $('no-pictures').hidden = pictures.length > 0;
  for (const [stream, { figure }] of shown) {
    if (!pictures.some((each) => each.stream === stream)) { figure.remove(); shown.delete(stream); }
  }
  if (shown.size === 0) box.replaceChildren();
  for (const { stream, time } of pictures) {
    const known = shown.get(stream) ?? begin(box, stream);
    if (known.time === time || known.busy) continue;
    known.busy = true;
    draw(node, stream, known.canvas)
      .then(() => { known.time = time; known.words.textContent = `${stream}, taken at ${clock(time)}`; },
        (error) => { known.words.textContent = `${stream}: ${error.message}`; })
      .finally(() => { known.busy = false; });
  }
}

function begin(box, stream) {
  const figure = make('figure');
  const canvas = make('canvas');
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `Newest picture of ${stream}`);
  const words = make('figcaption', stream);
  figure.append(canvas, words);
  box.append(figure);
  const known = { figure, canvas, words, time: null, busy: false };
  shown.set(stream, known);
  return known;
}

async function draw(node, stream, canvas) {
  const answer = await fetch(`nodes/${encodeURIComponent(node)}/picture?stream=${encodeURIComponent(stream)}`);
  if (!answer.ok) throw new Error('not here any more');
  const format = answer.headers.get('X-Format');
  const [width, height] = ['X-Width', 'X-Height'].map((name) => Number(answer.headers.get(name)));
  const data = new Uint8Array(await answer.arrayBuffer());
  const picture = format in CODECS ? await decoded(format, data) : pixels(format, width, height, data);
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d');
  if (picture instanceof ImageData) context.putImageData(picture, 0, 0);
  else { context.drawImage(picture, 0, 0, width, height); picture.close(); }
}

function pixels(format, width, height, data) {
  const picture = new ImageData(width, height);
  const [red, green, blue, step] = { rgb24: [0, 1, 2, 3], bgr24: [2, 1, 0, 3], gray: [0, 0, 0, 1] }[format];
  for (let from = 0, to = 0; from < data.length; from += step, to += 4) {
    picture.data[to] = data[from + red];
    picture.data[to + 1] = data[from + green];
    picture.data[to + 2] = data[from + blue];
    picture.data[to + 3] = 255;
  }
  return picture;
}

// Profile and level, as its sequence parameter set says (RFC 6381, section 3.3)
function avc(data) {
  for (let at = 0; at + 6 < data.length; at += 1) {
    if (data[at] === 0 && data[at + 1] === 0 && data[at + 2] === 1 && (data[at + 3] & 31) === 7)
      return `avc1.${[...data.subarray(at + 4, at + 7)].map((each) => each.toString(16).padStart(2, '0')).join('')}`;
  }
  throw new Error('its H.264 says no profile');
}

function decoded(format, data) {
  if (!('VideoDecoder' in window)) throw new Error('this browser decodes video only over HTTPS or on the hub itself');
  return new Promise((resolve, reject) => {
    const decoder = new VideoDecoder({ output: (frame) => { resolve(frame); }, error: reject });
    decoder.configure({ codec: CODECS[format](data), optimizeForLatency: true });
    decoder.decode(new EncodedVideoChunk({ type: 'key', timestamp: 0, data }));
    decoder.flush().then(() => decoder.close(), reject);
  });
}
