// SockJS: the raw WebSocket of its servers, and the whole protocol with /info.
import http from "node:http";
import sockjs from "sockjs";
import SockJS from "sockjs-client";
import { WebSocket } from "ws";
import { equal, event, headers, listen, main, http as url, ws } from "./lib.mjs";

function say(socket, text) {
  return new Promise((resolve, reject) => {
    socket.onopen = () => socket.send(text);
    socket.onmessage = ({ data }) => resolve(data);
    socket.onclose = ({ code, reason }) => reject(new Error(`closed: ${code} ${reason}`));
  });
}

await main({
  serve() {
    const server = http.createServer();
    const service = sockjs.createServer({ log: () => {} });
    service.on("connection", (socket) => socket.on("data", (text) => socket.write(`echo ${text}`)));
    service.installHandlers(server, { prefix: "/echo" });
    listen(server);
  },
  async raw() {
    const socket = new WebSocket(`${ws}/echo/websocket`, { headers });
    await event(socket, "open");
    socket.send("grüße");
    equal(`${(await event(socket, "message"))[0]}`, "echo grüße");
  },
  async session() {
    const socket = new WebSocket(`${ws}/echo/000/abcdefgh/websocket`, { headers });
    equal(`${(await event(socket, "message"))[0]}`, "o");
    socket.send('["grüße"]');
    equal(`${(await event(socket, "message"))[0]}`, 'a["echo grüße"]');
  },
  async websocket() {
    const socket = new SockJS(`${url}/echo`, null, { transports: ["websocket"] });
    equal(await say(socket, "grüße"), "echo grüße");
    equal(socket.transport, "websocket");
  },
  async polling() {
    const socket = new SockJS(`${url}/echo`, null, { transports: ["xhr-polling"] });
    equal(await say(socket, "grüße"), "echo grüße");
    equal(socket.transport, "xhr-polling");
  },
  async refused() {
    const answer = await fetch(`${url}/echo/info`);
    equal(answer.status, 426);
    equal(answer.headers.get("upgrade"), "websocket");
    const socket = new SockJS(`${url}/echo`, null, { transports: ["websocket"] });
    const { code } = await new Promise((resolve) => (socket.onclose = resolve));
    equal(code, 1002);
  },
});
