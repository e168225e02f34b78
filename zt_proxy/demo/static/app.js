// The demo app's pages. No innerHTML, no inline handlers: they run under `default-src 'none'; script-src 'self'`.
'use strict';

const byId = (id) => document.getElementById(id);

// `way` is [text, path] of a link to a page that helps; it opens beside this one, so that nothing typed here is lost.
function notice(text, bad, way) {
  const box = byId('notice');
  box.querySelector('p').textContent = text;
  box.classList.toggle('bad', bad);
  const link = box.querySelector('a');
  link.hidden = !way;
  if (way) [link.textContent, link.href] = way;
  box.hidden = false;
}

// A page of this app that the proxy guards by the rule that said no: opening it is the way through the sign-in.
function wayThrough(problem) {
  return problem.reason === 'reauth-required' ? ['Confirm that it is you', '/confirm'] : ['Sign in again', '/welcome'];
}

// Gives the parsed answer, or null after telling the person why not.
async function send(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    notice('The server cannot be reached. Nothing was saved.', true);
    return null;
  }
  if (answer.ok) return answer.status === 204 ? {} : answer.json();
  const problem = await answer.json().catch(() => ({}));
  const text = [problem.title, problem.detail].filter(Boolean).join(' — ') || `The server answered ${answer.status}.`;
  notice(text, true, answer.status === 401 ? wayThrough(problem) : null);
  return null;
}

function live() {
  const list = byId('live');
  const state = byId('live-state');
  let seen = false;
  let wait = 500;
  const connect = () => {
    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/live`);
    socket.addEventListener('open', () => {
      list.replaceChildren();
      state.textContent = 'on';
      state.classList.add('on');
      wait = 500;
      socket.send('ping');
    });
    socket.addEventListener('message', (message) => {
      const event = JSON.parse(message.data);
      if (event.kind === 'pong') {
        seen = true;
        return;
      }
      const line = document.createElement('li');
      const who = document.createElement('strong');
      who.textContent = event.who;
      const when = document.createElement('time');
      when.textContent = new Date(event.at * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
      line.append(who, ` ${event.text} `, when);
      line.dataset.kind = event.kind;
      list.prepend(line);
      while (list.children.length > 50) list.lastChild.remove();
      if (seen && event.kind === 'deploy' && byId('records')) location.reload();
    });
    socket.addEventListener('close', () => {
      state.textContent = 'off';
      state.classList.remove('on');
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 30000);
    });
  };
  connect();
}

function records() {
  const dialog = byId('record');
  const form = byId('record-form');
  const body = byId('records').tBodies[0];
  const fields = [...form.elements].filter((element) => element.name);
  let editing = null;

  const fill = (row, record) => {
    fields.forEach((field, index) => { row.cells[index].textContent = record[field.name]; });
  };
  const newRow = (record) => {
    const row = body.insertRow();
    row.dataset.id = record.id;
    fields.forEach((field) => {
      row.insertCell().dataset.label = form.querySelector(`label[for="${field.id}"]`).textContent;
    });
    const tools = row.insertCell();
    tools.className = 'tools';
    const edit = document.createElement('button');
    edit.type = 'button';
    edit.className = 'link';
    edit.dataset.do = 'edit';
    edit.textContent = 'Edit';
    tools.append(edit);
    fill(row, record);
  };
  const open = (row) => {
    editing = row;
    byId('record-title').textContent = row ? `Record ${row.dataset.id}` : 'New record';
    byId('delete').hidden = !row;
    form.reset();
    if (row) fields.forEach((field, index) => { field.value = row.cells[index].textContent; });
    dialog.showModal();
  };

  byId('add').addEventListener('click', () => open(null));
  byId('cancel').addEventListener('click', () => dialog.close());
  body.addEventListener('click', (event) => {
    if (event.target.dataset.do === 'edit') open(event.target.closest('tr'));
  });
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const record = Object.fromEntries(fields.map((field) => [field.name, field.value]));
    const path = editing ? `/api/records/${editing.dataset.id}` : '/api/records';
    const saved = await send(editing ? 'PUT' : 'POST', path, record);
    dialog.close();
    if (!saved) return;
    if (editing) fill(editing, saved); else newRow(saved);
    notice('Saved.', false);
  });
  byId('delete').addEventListener('click', async () => {
    const done = await send('DELETE', `/api/records/${editing.dataset.id}`);
    dialog.close();
    if (!done) return;
    editing.remove();
    notice('Deleted.', false);
  });
}

function editor() {
  const list = byId('fields');
  const deploy = byId('deploy');
  const dirty = (is) => { byId('dirty').hidden = !is; };
  const number = () => `${Date.now()}${Math.floor(Math.random() * 1000)}`;

  byId('add-field').addEventListener('click', () => {
    const node = list.lastElementChild.cloneNode(true);
    delete node.dataset.name;
    const id = number();
    node.querySelector('input').id = `label-${id}`;
    node.querySelector('select').id = `type-${id}`;
    node.querySelectorAll('label').forEach((label, index) => { label.htmlFor = `${index ? 'type' : 'label'}-${id}`; });
    node.querySelector('input').value = '';
    node.querySelector('select').selectedIndex = 0;
    list.append(node);
    node.querySelector('input').focus();
    dirty(true);
  });
  list.addEventListener('input', () => dirty(true));
  list.addEventListener('click', (event) => {
    if (event.target.dataset.do !== 'remove' || list.children.length === 1) return;
    event.target.closest('li').remove();
    dirty(true);
  });
  deploy.addEventListener('click', async () => {
    const fields = [...list.children].map((node) => ({
      name: node.dataset.name, label: node.querySelector('input').value, type: node.querySelector('select').value,
    }));
    deploy.disabled = true;
    const done = await send('POST', '/api/deploy', { version: Number(list.dataset.version), fields });
    deploy.disabled = false;
    if (!done) return;
    list.dataset.version = done.version;
    byId('version').textContent = done.version;
    dirty(false);
    notice(`Version ${done.version} is deployed.`, false);
  });
}

byId('notice').querySelector('button').addEventListener('click', () => { byId('notice').hidden = true; });
if (byId('records')) records();
if (byId('fields')) editor();
if (byId('live')) live();
