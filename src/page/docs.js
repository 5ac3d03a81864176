// The routes of /openapi.json to read and to try.
import { failure } from "./hand.js";

/** Depth to which a schema's properties are shown. */
const DEPTH = 6;

/** Makes an element with attributes and children; children that are text stay text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") element.textContent = value;
    else if (value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let openapi = {};

/** Follows references. */
function resolved(part) {
  let found = part ?? {};
  while (found.$ref) {
    found = found.$ref.slice(2).split("/").reduce((at, key) => at[key], openapi);
  }
  return found;
}

/** Returns a schema's type in words. */
function typeOf(schema) {
  const { type, enum: choices, const: constant, oneOf, items } = schema;
  if (constant !== undefined) return JSON.stringify(constant);
  if (choices) return choices.map((choice) => JSON.stringify(choice)).join(" or ");
  if (oneOf) return oneOf.map((part) => typeOf(resolved(part))).join(" or ");
  const name = [type ?? "any"].flat().join(" or ");
  const { minItems, maxItems, minimum, maximum } = schema;
  const range = (least, most) => {
    if (least === undefined && most === undefined) return "";
    if (least === most) return ` of ${least}`;
    if (most === undefined) return ` from ${least}`;
    return least === undefined ? ` of up to ${most}` : ` of ${least} to ${most}`;
  };
  if (type === "array") return `array${range(minItems, maxItems)}, each ${typeOf(resolved(items))}`;
  return name + range(minimum, maximum);
}

/** Returns rows of a schema's properties, nested ones by their path. */
function rows(schema, path = "", depth = 0) {
  const { properties, required = [], items, oneOf } = resolved(schema);
  if (depth > DEPTH) return [];
  if (oneOf) return oneOf.flatMap((part) => rows(part, path, depth + 1));
  if (items) return rows(items, `${path}[]`, depth + 1);
  return Object.entries(properties ?? {}).flatMap(([name, part]) => {
    const property = resolved(part);
    const full = path ? `${path}.${name}` : name;
    const head = make("th", { scope: "row" }, make("code", { text: full }));
    if (!required.includes(name)) head.append(make("span", { class: "small", text: " optional" }));
    const about = make("td", {}, make("span", { class: "small", text: typeOf(property) }));
    if (property.description) about.append(make("br"), property.description);
    return [make("tr", {}, head, about), ...rows(property, full, depth + 1)];
  });
}

function schemaTable(schema, caption) {
  const found = rows(schema);
  if (found.length === 0) return null;
  return make("details", {}, make("summary", { text: caption }),
    make("table", { class: "plain" }, make("caption", { class: "quiet", text: caption }), make("tbody", {}, ...found)));
}

/** Returns an example of a schema. */
function example(schema) {
  const { default: fallback, const: constant, enum: choices, type, properties, required = [], items, minItems, minimum } =
    resolved(schema);
  if (fallback !== undefined) return fallback;
  if (constant !== undefined) return constant;
  if (choices) return choices[0];
  switch ([type].flat()[0]) {
    case "object":
      return Object.fromEntries(
        Object.entries(properties ?? {})
          .filter(([name]) => required.includes(name))
          .map(([name, part]) => [name, example(part)]),
      );
    case "array":
      return Array.from({ length: minItems ?? 1 }, () => example(items));
    case "number":
    case "integer":
      return Math.max(minimum ?? 0, 0);
    case "boolean":
      return true;
    default:
      return "";
  }
}

/** Returns the media type that the form sends, and how. */
function bodyOf(operation) {
  const content = resolved(operation.requestBody).content;
  if (!content) return null;
  const schema = content["application/json"]?.schema;
  const types = Object.keys(content).filter((type) => !/^(multipart\/|application\/json$)/.test(type));
  if (types.length === 0) return { type: "application/json", text: JSON.stringify(example(schema)), schema };
  return { type: types[0], types, schema };
}

/** Returns the lines that send a request from elsewhere. `secret` tells that it needs a token. */
function lines(method, url, body, secret) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const short = body?.text && body.text.length > 200 ? null : body?.text;
  const file = body && (body.text === undefined ? "photo.jpg" : "body.json");
  const curl = ["curl", method === "GET" ? null : `--request ${method}`];
  const python = ["from urllib.request import Request, urlopen", ""];
  const script = [];
  const sent = { ...(secret && { Authorization: "Bearer TOKEN" }), ...(body && { "Content-Type": body.type }) };
  curl.push(...Object.entries(sent).map(([name, value]) => `--header ${quoted(`${name}: ${value}`)}`));
  if (body) {
    curl.push(short ? `--data ${quoted(short)}` : `--data-binary @${file}`);
    python.push(short ? `body = ${JSON.stringify(short)}.encode()` : `body = open("${file}", "rb").read()`);
    script.push(
      body.text === undefined
        ? "const body = document.querySelector('input[type=file]').files[0];"
        : `const body = ${short ? quoted(short) : "JSON.stringify(object)"};`,
    );
  }
  curl.push(quoted(url));
  const json = Object.entries(sent).map(([name, value]) => `"${name}": "${value}"`).join(", ");
  const headers = `${body ? ", data=body" : ""}${json && `, headers={${json}}`}`;
  const options = [
    method === "GET" ? null : `  method: "${method}",\n`,
    json && `  headers: { ${json} },\n`,
    body ? "  body,\n" : null,
  ].filter(Boolean);
  python.push(`request = Request("${url}", method="${method}"${headers})`, "print(urlopen(request).read().decode())");
  script.push(
    `const response = await fetch("${url}"${options.length > 0 ? `, {\n${options.join("")}}` : ""});`,
    "console.log(response.status, await response.text());",
  );
  return { curl: curl.filter(Boolean).join(" "), Python: python.join("\n"), JavaScript: script.join("\n") };
}

function codes(method, url, body, secret) {
  return Object.entries(lines(method, url, body, secret)).map(([name, text]) => {
    const copy = make("button", { type: "button", text: "Copy", "aria-label": `Copy the lines for ${name}` });
    copy.addEventListener("click", async () => {
      await navigator.clipboard?.writeText(text);
      copy.textContent = "Copied";
    });
    const details = make("details", {}, make("summary", { text: name }), make("pre", { tabindex: "0" }, make("code", { text })));
    if (navigator.clipboard) details.append(copy);
    if (name === "curl") details.open = true;
    return details;
  });
}

/** Returns a form that sends a request, and shows the answer. */
function form(method, path, operation, body) {
  const id = operation.operationId;
  const fields = make("div", { class: "buttons" });
  const parameters = (operation.parameters ?? []).map(resolved).filter(({ in: place }) => place !== "header");
  const inputs = parameters.map(({ name, in: place, description }) => {
    const required = place === "path" ? "" : undefined;
    const input = make("input", { type: "text", id: `${id}-${name}`, name, required });
    input.inPath = place === "path";
    fields.append(make("label", { for: input.id, text: `${name}${description ? `: ${description}` : ""}` }), input);
    return input;
  });
  let file = null;
  let text = null;
  let link = null;
  let token = null;
  if (operation.security) {
    token = make("input", { type: "password", id: `${id}-token`, autocomplete: "off" });
    fields.append(make("label", { for: token.id, text: "Token" }), token);
  }
  if (body?.text !== undefined) {
    text = make("textarea", { id: `${id}-body`, spellcheck: "false" });
    text.value = body.text;
    fields.append(make("label", { for: text.id, text: "Body" }), text);
  } else if (body) {
    file = make("input", { type: "file", id: `${id}-file`, accept: body.types.join(",") });
    fields.append(make("label", { for: file.id, text: "Photo" }), file);
    if (body.schema) {
      link = make("input", { type: "url", id: `${id}-url` });
      fields.append(make("label", { for: link.id, text: "Or the photo's URL, where the service fetches photos" }), link);
    }
  }
  const button = make("button", { type: "submit", text: "Send" });
  fields.append(button);
  const output = make("div", { role: "status" });
  const element = make("form", { "aria-label": `Try ${method} ${path}` }, fields, output);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams(
      inputs.filter(({ value, inPath }) => value && !inPath).map(({ name, value }) => [name, value]),
    ).toString();
    const filled = inputs
      .filter(({ inPath }) => inPath)
      .reduce((all, { name, value }) => all.replace(`{${name}}`, encodeURIComponent(value)), path);
    button.disabled = true;
    const start = performance.now();
    try {
      const response = await fetch(`.${filled}${query && `?${query}`}`, {
        method,
        headers: { Accept: "application/json", ...(token?.value && { Authorization: `Bearer ${token.value}` }) },
        body: link?.value ? JSON.stringify({ url: link.value }) : text ? text.value : file?.files[0],
      });
      const answer = await response.text();
      const ms = performance.now() - start;
      output.replaceChildren(
        make("p", {}, make("strong", { text: `${response.status} ${response.statusText}` }), ` in ${ms.toFixed(0)} ms`),
        make("pre", { tabindex: "0", text: pretty(answer) }),
      );
    } catch (error) {
      output.replaceChildren(make("p", { class: "notice", text: failure(error) }));
    } finally {
      button.disabled = false;
    }
  });
  return element;
}

/** Returns JSON with line ends, and everything else as it is. */
function pretty(text) {
  try {
    // Short lists stay on one line: a landmark is one.
    return JSON.stringify(JSON.parse(text), null, 2).replace(/\[[^[\]{}]*\]/g, (list) => list.replace(/\s+/g, " "));
  } catch {
    return text;
  }
}

function route(path, method, operation) {
  const body = bodyOf(operation);
  const url = new URL(".", location.href).href + path.slice(1);
  const responses = Object.entries(operation.responses).map(([status, response]) => {
    const { description, content } = resolved(response);
    const about = make("td", {}, description);
    if (content) about.append(make("br"), make("span", { class: "small", text: Object.keys(content).join(", ") }));
    return make("tr", {}, make("th", { scope: "row", text: status }), about);
  });
  const ok = resolved(operation.responses["200"]);
  const about = resolved(operation.requestBody).description;
  return make("article", { id: operation.operationId },
    make("h2", {}, make("span", { class: "method", text: `${method} ` }), make("code", { text: path })),
    make("p", { text: operation.summary }),
    operation.description ? make("p", { class: "small", text: operation.description }) : null,
    about ? make("p", { class: "small", text: about }) : null,
    body?.schema ? schemaTable(body.schema, "Fields of the request") : null,
    schemaTable(ok.content?.["application/json"]?.schema, "Fields of the answer"),
    make("h3", { text: "Answers" }),
    make("table", { class: "plain" }, make("caption", { class: "quiet", text: "Answers" }), make("tbody", {}, ...responses)),
    make("h3", { text: "From elsewhere" }),
    ...codes(method, url, body, operation.security),
    make("h3", { text: "Try it" }),
    form(method, path, operation, body));
}

async function show() {
  const main = document.getElementById("routes");
  try {
    openapi = await (await fetch("openapi.json")).json();
  } catch (error) {
    const offline = document.getElementById("offline");
    offline.textContent = failure(error);
    offline.hidden = false;
    return;
  } finally {
    main.removeAttribute("aria-busy");
  }
  const { title, version, description } = openapi.info;
  document.getElementById("title").textContent = `${title} ${version}`;
  const order = ["/predict", "/spell", "/feedback", "/feedback/{trace_id}", "/feedback/export"];
  const rank = (path) => (order.indexOf(path) + 1 || order.length + 1);
  const paths = Object.entries(openapi.paths).sort(([a], [b]) => rank(a) - rank(b));
  main.append(
    make("p", { text: `${description} Errors are application/problem+json, and their detail says what to do.` }),
    ...paths.flatMap(([path, operations]) =>
      Object.entries(operations).map(([method, operation]) => route(path, method.toUpperCase(), operation)),
    ),
  );
}

show();
