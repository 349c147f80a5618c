// Shows the two documents. Texts are set as texts: nothing in them becomes markup.

const docs = document.querySelector('#docs');

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function section(title, description, ...rest) {
  const heading = element('h3', undefined, element('code', title));
  docs.append(element('section', undefined, heading, element('p', description ?? ''), ...rest));
}

const json = (value) => element('pre', JSON.stringify(value, null, 2));

function table(rows) {
  return element('table', undefined, ...rows.map((row) => element('tr', undefined, ...row.map((cell) => element('td', cell ?? '')))));
}

/** The schema with what it refers to in its place; a name that refers to itself stays a name. */
function resolved(schema, root, seen = []) {
  if (Array.isArray(schema)) return schema.map((one) => resolved(one, root, seen));
  if (schema === null || typeof schema !== 'object') return schema;
  if (typeof schema.$ref === 'string') {
    if (seen.includes(schema.$ref)) return schema.$ref;
    const target = schema.$ref.slice(2).split('/').reduce((at, step) => at?.[step], root);
    return resolved(target, root, [...seen, schema.$ref]);
  }
  return Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, resolved(value, root, seen)]));
}

function showHttp(api) {
  docs.append(element('h2', 'HTTP'));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, call] of Object.entries(methods)) {
      const parts = [];
      const parameters = (call.parameters ?? []).map((one) => [one.name, one.in, one.description]);
      if (parameters.length > 0) parts.push(table(parameters));
      const body = call.requestBody?.content?.['application/json']?.schema;
      if (body) parts.push(element('p', 'The body:'), json(resolved(body, api)));
      for (const [status, answer] of Object.entries(call.responses ?? {})) {
        parts.push(element('p', `${status}: ${answer.description}`));
        const schema = answer.content?.['application/json']?.schema;
        if (schema) parts.push(json(resolved(schema, api)));
      }
      section(`${method.toUpperCase()} ${path}`, call.summary ?? call.description, ...parts);
    }
  }
}

function showEvents(api) {
  docs.append(element('h2', 'Socket.IO and server-sent events'));
  for (const [name, message] of Object.entries(api.components.messages)) {
    section(name, message.summary, ...(message.payload ? [json(resolved(message.payload, api))] : []));
  }
}

const [http, events] = await Promise.all(['/openapi.json', '/asyncapi.json'].map(async (url) => (await fetch(url)).json()));
docs.replaceChildren();
showHttp(http);
showEvents(events);
