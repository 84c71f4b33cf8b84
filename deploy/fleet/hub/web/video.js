// Video on demand: what was asked of a node, what it has said to that, and a button to ask or end it.
import { $, show } from './dom.js';
import { Told, post } from './acting.js';

const SECONDS = 60;
const STATES = {
  asked: () => 'Asked: the node has not fetched it yet.',
  void: () => 'The node did not fetch the request in time; it is void.',
  fetched: () => 'The node has fetched the request, and has not said yet whether it sends.',
  agreed: ({ left_s: left }) => `The node has agreed to send video for ${left} s more.`,
  refused: ({ reason }) => `The node refuses: ${reason}`,
  ended: () => 'The video that was asked for has ended.',
};
let asking = '';
const wrong = new Map();

export function showVideo(row, video) {
  const button = $('video');
  button.hidden = !row.video || row.state === 'revoked';
  button.disabled = asking === row.node;
  const on = video?.state === 'agreed';
  show(button, on ? 'End video' : 'Ask for video');
  button.onclick = () => ask(row.node, on ? 0 : SECONDS);
  const told = row.video ? 'No video was asked for.' : 'The node takes no requests for video: its own file allows none.';
  show($('video-state'), wrong.get(row.node) ?? (video ? STATES[video.state](video) : told));
}

async function ask(node, seconds) {
  asking = node;
  wrong.delete(node);
  $('video').disabled = true;
  try {
    await post('video', { node, seconds });
  } catch (error) {
    if (!(error instanceof Told) && !(error instanceof TypeError)) throw error;
    wrong.set(node, error instanceof Told ? error.message : 'The hub does not answer.');
    show($('video-state'), wrong.get(node));
  } finally {
    asking = '';
    $('video').disabled = false;
  }
}
