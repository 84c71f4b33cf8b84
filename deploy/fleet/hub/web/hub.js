// The page asks the hub every two seconds, and shows what it says: fleet.js all of it, node.js the node that was chosen.
import { $, show } from './dom.js';
import { showFleet } from './fleet.js';
import { forget, showNode } from './node.js';
import { ready } from './acting.js';

const EVERY_MS = 2000;
const PATIENCE_MS = 10000;

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`the hub answered ${answer.status}`);
  return answer;
}

async function look() {
  const chosen = location.hash.startsWith('#node=') ? decodeURIComponent(location.hash.slice(6)) : '';
  const [fleet, map] = await Promise.all([
    ask('fleet.json').then((answer) => answer.json()),
    ask('map.svg').then((answer) => answer.text()),
  ]);
  const known = fleet.nodes.some((row) => row.node === chosen);
  showFleet(fleet, map, known ? chosen : '');
  if (known) showNode(await (await ask(`nodes/${encodeURIComponent(chosen)}.json`)).json());
  else forget();
}

let asking = null;
let again = false;
let timer = 0;

// Ask now, and once more behind what is under way.
export function refresh() {
  if (asking) { again = true; return; }
  clearTimeout(timer);
  asking = look()
    .then(() => { $('notice').hidden = true; }, (error) => {
      show($('notice'), `The hub does not answer (${error.message}). What stands here is what it said last.`);
      $('notice').hidden = false;
    })
    .finally(() => {
      asking = null;
      timer = setTimeout(refresh, again ? 0 : EVERY_MS);
      again = false;
    });
}

addEventListener('hashchange', refresh);
ready(refresh);
refresh();
