// Roll out, roll back, revoke: each is asked again before it is done, and needs the hub's key.
import { $, make, show } from './dom.js';

const KEY = 'thalweg-hub-key';
let after = () => {};

export class Told extends Error {}

export function ready(refresh) {
  after = refresh;
  for (const button of document.querySelectorAll('[data-close]')) {
    button.addEventListener('click', () => button.closest('dialog').close());
  }
  $('rollout-button').addEventListener('click', () => { quiet('rollout'); $('rollout').showModal(); });
  $('files').addEventListener('change', choose);
  $('close').addEventListener('click', close);
  $('revoke').addEventListener('click', () => revoke($('node').dataset.node));
  on('rollout', rollOut);
}

function close() {
  const name = $('node').dataset.node;
  location.hash = '';
  for (const button of document.querySelectorAll('#nodes button')) if (button.textContent === name) button.focus();
}

// What a dialog does when its button is pressed: it closes where that has worked, and else says why not.
function on(dialog, act) {
  const box = $(dialog);
  box.querySelector('form').onsubmit = async (event) => {
    event.preventDefault();
    const go = $(`${dialog}-go`);
    go.disabled = true;
    quiet(dialog);
    try {
      await act();
      box.close();
      after();
    } catch (error) {
      if (!(error instanceof Told) && !(error instanceof TypeError)) throw error;
      show($(`${dialog}-wrong`), error instanceof Told ? error.message : 'The hub does not answer.');
      $(`${dialog}-wrong`).hidden = false;
    } finally {
      go.disabled = false;
    }
  };
}

function quiet(dialog) {
  $(`${dialog}-wrong`).hidden = true;
}

// Asks until there is a key, or the visitor closes the dialog.
async function ask(method, path, body) {
  for (;;) {
    const key = sessionStorage.getItem(KEY) ?? await askKey('');
    const answer = await fetch(path, { method, body, headers: { Authorization: `Bearer ${key}` } });
    if (answer.status === 401) {
      sessionStorage.removeItem(KEY);
      await askKey('That is not the key of this hub.');
      continue;
    }
    const told = await answer.json();
    if (!answer.ok) throw new Told(told.message);
    return told;
  }
}

function askKey(wrong) {
  const box = $('ask-key');
  show($('key-wrong'), wrong);
  $('key-wrong').hidden = !wrong;
  $('key').value = '';
  box.showModal();
  return new Promise((resolve, reject) => {
    box.querySelector('form').onsubmit = (event) => {
      event.preventDefault();
      const key = $('key').value.trim();
      sessionStorage.setItem(KEY, key);
      box.close();
      resolve(key);
    };
    box.onclose = () => { if (!sessionStorage.getItem(KEY)) reject(new Told('Nothing was changed: that needs the key.')); };
  });
}

export const post = (path, told) => ask('POST', path, JSON.stringify(told));

function sure(title, text, button, act) {
  show($('sure-title'), title);
  show($('sure-text'), text);
  show($('sure-go'), button);
  quiet('sure');
  on('sure', act);
  $('sure').showModal();
}

export function rollBack(generation, pipeline) {
  sure(
    `Run generation ${generation} again?`,
    `Nodes that should run a newer one try ${pipeline} of generation ${generation} again, as a new generation.`,
    'Run it again',
    () => post('rollback', { generation, nodes: [] }),
  );
}

function revoke(node) {
  sure(
    `Revoke ${node}?`,
    'The hub lets it in no more. It goes on with what it runs; enrolling it again lets it in.',
    'Revoke',
    () => post('revoke', { node }),
  );
}

// Nodes that something can be rolled out to; which of them are ticked stays as it is.
export function targets(nodes) {
  const box = $('targets');
  const names = nodes.filter((row) => row.state !== 'revoked').map((row) => row.node);
  const known = new Map([...box.children].map((label) => [label.dataset.node, label]));
  if (names.join() === [...known.keys()].join()) return;
  box.replaceChildren(...names.map((name) => known.get(name) ?? target(name)));
}

function target(name) {
  const label = make('label', '', 'check');
  const tick = make('input');
  tick.type = 'checkbox';
  tick.checked = true;
  label.dataset.node = name;
  label.append(tick, name);
  return label;
}

function choose() {
  const names = [...$('files').files].map((file) => file.name).filter((name) => /\.ya?ml$/.test(name));
  $('pipeline').replaceChildren(...names.map((name) => make('option', name)));
}

async function rollOut() {
  const nodes = [...document.querySelectorAll('#targets input:checked')].map((tick) => tick.parentElement.dataset.node);
  if (!nodes.length) throw new Told('Choose a node.');
  const settings = Object.fromEntries($('settings').value.split('\n').filter((line) => line.trim()).map((line) => {
    const [name, ...value] = line.split('=');
    if (!value.length) throw new Told(`“${line.trim()}” is no NAME=VALUE.`);
    return [name.trim(), value.join('=').trim()];
  }));
  const files = {};
  for (const file of $('files').files) {
    files[file.name] = (await ask('PUT', 'files', file)).sha256;
  }
  const [watch, missed] = ['watch', 'missed'].map((id) => Number($(id).value));
  await post('rollout', { pipeline: $('pipeline').value, files, settings, nodes, watch_s: watch, missed: missed / 100 });
}
