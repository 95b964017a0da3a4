// @ts-check
// The connection of the console as a command or program. Every value is quoted for its language.

/**
 * `token`: empty for none; `secret`: the token itself, if it is to be in the text. `header` is the
 * place of the token.
 * @typedef {{url: string, protocols: string[], headers: string[][], header: string, scheme: string, token: boolean, secret: string, get: string, message: string}} Connection
 */

/** For a POSIX shell. @param {string} text */
export const shell = (text) => `'${text.replace(/'/g, `'\\''`)}'`;

/** For JavaScript, also within HTML. @param {string} text */
export const script = (text) => JSON.stringify(text).replace(/[\u2028\u2029<]/g, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** For Python. @param {string} text */
export const python = (text) => `"${text.replace(/[\\"]|[^ -~]/gu, (each) => {
  const code = /** @type {number} */ (each.codePointAt(0));
  if (each === "\\" || each === '"') return `\\${each}`;
  return code > 0xffff ? `\\U${code.toString(16).padStart(8, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
})}"`;

/** The value of the header with the token, for a shell. @param {Connection} it */
const shellToken = (it) => (it.secret ? shell(`${it.header}: ${it.scheme}${it.secret}`) : `${shell(`${it.header}: ${it.scheme}`)}"$TOKEN"`);

/** @param {Connection} it @param {string} comment */
const before = (it, comment) => (it.token && !it.secret && it.get ? `${comment}${it.get}\n` : "");

/** @param {Connection} it @param {string} option */
const shellHeaders = (it, option) => [...it.headers.map(([name, value]) => ` ${option} ${shell(`${name}: ${value}`)}`), ...(it.token ? [` ${option} ${shellToken(it)}`] : [])].join(" \\\n ");

/** @param {Connection} it */
function wscat(it) {
  const more = [
    ...it.protocols.map((each) => ` -s ${shell(each)}`), shellHeaders(it, "-H"),
    it.url.startsWith("wss:") ? " --no-check" : "", it.message ? ` -w 2 -x ${shell(it.message)}` : "",
  ].filter(Boolean);
  return `${before(it, "")}npx wscat -c ${shell(it.url)}${more.map((each) => ` \\\n ${each}`).join("")}`;
}

/** @param {Connection} it */
function websocat(it) {
  const insecure = it.url.startsWith("wss:") ? " -k" : "";
  const protocols = it.protocols.length ? ` \\\n  --protocol ${shell(it.protocols.join(", "))}` : "";
  const headers = shellHeaders(it, "-H");
  const message = it.message ? `printf %s ${shell(it.message)} | ` : "";
  // The URL comes first: `-H` takes all that follows.
  return `${before(it, "")}${message}websocat${insecure} --text${message ? " --no-line --no-close -1" : ""} ${shell(it.url)}${protocols}${headers ? ` \\\n ${headers}` : ""}`;
}

/** @param {Connection} it */
function javascript(it) {
  const secret = it.secret ? script(it.secret) : 'globalThis.process?.env.TOKEN ?? "…"';
  const bearer = it.token && it.scheme;
  const protocols = [...(bearer ? ['"bearer"', "token"] : []), ...it.protocols.map(script)];
  const lost = [...it.headers.map(([name]) => name), ...(it.token && !bearer ? [it.header] : [])];
  return [
    before(it, "// ").trimEnd(),
    lost.length ? `// A browser cannot send these headers: ${lost.map(script).join(", ")}` : "",
    bearer ? `const token = ${secret};` : "",
    `const socket = new WebSocket(${script(it.url)}${protocols.length ? `, [${protocols.join(", ")}]` : ""});`,
    it.message ? `socket.onopen = () => socket.send(${script(it.message)});` : "",
    "socket.onmessage = (event) => console.log(event.data);",
    "socket.onclose = (event) => console.log(\"closed\", event.code, event.reason);",
  ].filter(Boolean).join("\n");
}

/** @param {Connection} it */
function pythonProgram(it) {
  const headers = it.headers.map(([name, value]) => `    (${python(name)}, ${python(value)}),`);
  if (it.token) headers.push(`    (${python(it.header)}, ${it.scheme ? `${python(it.scheme)} + ` : ""}${it.secret ? python(it.secret) : 'os.environ["TOKEN"]'}),`);
  const tls = it.url.startsWith("wss:");
  return [
    before(it, "# ").trimEnd(),
    "# pip install websockets",
    it.token && !it.secret ? "import os" : "",
    tls ? "import ssl" : "",
    "from websockets.sync.client import connect",
    "",
    tls ? "tls = ssl.create_default_context()  # add cafile=\"certs/mg.pem\" for the gateway's own certificate" : "",
    `headers = [\n${headers.join("\n")}\n]`.replace("[\n\n]", "[]"),
    `with connect(${python(it.url)}, additional_headers=headers${it.protocols.length ? `, subprotocols=[${it.protocols.map(python).join(", ")}]` : ""}${tls ? ", ssl=tls" : ""}) as socket:`,
    it.message ? `    socket.send(${python(it.message)})` : "",
    "    print(socket.recv())",
  ].filter((each, at) => each || at === 5).join("\n");
}

/** The handshake only: curl shows the status and the reason of a refusal. @param {Connection} it */
function curl(it) {
  const protocols = it.protocols.length ? ` \\\n  -H ${shell(`Sec-WebSocket-Protocol: ${it.protocols.join(", ")}`)}` : "";
  const headers = shellHeaders(it, "-H");
  return `${before(it, "")}curl -sS -i -N --http1.1 --max-time 3 --globoff${it.url.startsWith("wss:") ? " -k" : ""} \\
  -H 'Connection: Upgrade' -H 'Upgrade: websocket' \\
  -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='${protocols}${headers ? ` \\\n ${headers}` : ""} \\
  ${shell(it.url.replace(/^ws/, "http"))}`;
}

/** @type {Record<string, (it: Connection) => string>} */
export const SNIPPETS = { wscat, websocat, JavaScript: javascript, Python: pythonProgram, "curl (handshake)": curl };
