// fetch and WebSocket of Node itself, and of the newer undici: the form of /testkey, then a token
// as subprotocol, as a web page does it.
import * as undici from "undici";
import { equal, gateway, main, wss } from "./lib.mjs";

async function talk({ fetch, WebSocket }) {
  const answer = await fetch(`${gateway}/testkey`, {
    method: "POST",
    headers: { Authorization: `Basic ${btoa("admin:admin")}` },
    body: new URLSearchParams({ scope: "chat" }),
  });
  equal(answer.status, 200);
  const socket = new WebSocket(`${wss}/echo`, ["bearer", await answer.text(), "chat"]);
  const heard = new Promise((resolve, reject) => {
    socket.onmessage = ({ data }) => resolve(data);
    socket.onerror = reject;
    socket.onclose = reject;
  });
  socket.onopen = () => socket.send("grüße");
  equal(await heard, "grüße");
  equal(socket.protocol, "chat");
}

await main({ node: () => talk(globalThis), undici: () => talk(undici) });
