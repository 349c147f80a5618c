// Renders the OpenAPI and AsyncAPI documents. Sets text with `textContent`, never as markup.

const docs = document.querySelector('#docs');

function element(name, text, ...children) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

function appendSection(title, description, ...rest) {
  const heading = element('h3', undefined, element('code', title));
  docs.append(element('section', undefined, heading, element('p', description ?? ''), ...rest));
}

const json = (value) => element('pre', JSON.stringify(value, null, 2));

function table(rows) {
  return element('table', undefined, ...rows.map((row) => element('tr', undefined, ...row.map((cell) => element('td', cell ?? '')))));
}

/** Replaces each `$ref` in the schema by its target; a recursive reference stays a reference. */
function resolveRefs(schema, root, seen = []) {
  if (Array.isArray(schema)) return schema.map((item) => resolveRefs(item, root, seen));
  if (schema === null || typeof schema !== 'object') return schema;
  if (typeof schema.$ref === 'string') {
    if (seen.includes(schema.$ref)) return schema.$ref;
    const target = schema.$ref.slice(2).split('/').reduce((at, step) => at?.[step], root);
    return resolveRefs(target, root, [...seen, schema.$ref]);
  }
  return Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, resolveRefs(value, root, seen)]));
}

function renderHttp(api) {
  docs.append(element('h2', 'HTTP'));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const parts = [];
      const parameters = (operation.parameters ?? []).map((parameter) => [parameter.name, parameter.in, parameter.description]);
      if (parameters.length > 0) parts.push(table(parameters));
      const body = operation.requestBody?.content?.['application/json']?.schema;
      if (body) parts.push(element('p', 'Request body:'), json(resolveRefs(body, api)));
      for (const [status, response] of Object.entries(operation.responses ?? {})) {
        parts.push(element('p', `${status}: ${response.description}`));
        const schema = response.content?.['application/json']?.schema;
        if (schema) parts.push(json(resolveRefs(schema, api)));
      }
      appendSection(`${method.toUpperCase()} ${path}`, operation.summary ?? operation.description, ...parts);
    }
  }
}

function renderEvents(api) {
  docs.append(element('h2', 'Socket.IO and server-sent events'));
  for (const [name, message] of Object.entries(api.components.messages)) {
    appendSection(name, message.summary, ...(message.payload ? [json(resolveRefs(message.payload, api))] : []));
  }
}

const [http, events] = await Promise.all(['/openapi.json', '/asyncapi.json'].map(async (url) => (await fetch(url)).json()));
docs.replaceChildren();
renderHttp(http);
renderEvents(events);
