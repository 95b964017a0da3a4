// What the Node programs share. A program is called as `node FILE serve`, which prints "PORT n" when
// it listens, or `node FILE NAME`, a client, which ends with 0 after messages went both ways.
import assert from "node:assert/strict";
import fs from "node:fs";

const { PEER_HTTP = "", PEER_HTTPS = "", PEER_BASE = "", PEER_TOKEN = "", PEER_CA = "" } = process.env;

export const http = PEER_HTTP + PEER_BASE;
export const ws = http.replace("http", "ws");
export const gateway = PEER_HTTPS;
export const https = PEER_HTTPS + PEER_BASE;
export const wss = https.replace("http", "ws");
export const base = PEER_BASE;
export const token = PEER_TOKEN;
export const headers = { Authorization: `Bearer ${PEER_TOKEN}` };
export const caFile = PEER_CA;
export const ca = PEER_CA && fs.readFileSync(PEER_CA);
export const equal = assert.deepEqual;

/** Resolve with the first event of this name; reject with an error that comes before. */
export function event(emitter, name, failure = "error") {
  return new Promise((resolve, reject) => {
    emitter.once(name, (...values) => resolve(values));
    if (name !== failure) emitter.once(failure, reject);
  });
}

/** Listen on a free port and say which. */
export function listen(server) {
  server.listen(0, "127.0.0.1", () => console.log(`PORT ${server.address().port}`));
}

/** Run the function that the command line names; a client's process ends with it. */
export async function main(functions) {
  const name = process.argv[2];
  try {
    await functions[name]();
    if (!name.startsWith("serve")) process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}
