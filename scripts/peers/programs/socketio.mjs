// Socket.IO: events and acknowledgements in both directions, binary, over each transport.
import http from "node:http";
import { Server } from "socket.io";
import { io } from "socket.io-client";
import { base, equal, event, gateway, headers, listen, main, http as url } from "./lib.mjs";

function connect(options) {
  const origin = new URL(url).origin;
  return io(origin, { path: `${base}/socket.io/`, extraHeaders: headers, reconnection: false, ...options });
}

async function talk(options, transport) {
  const socket = connect(options);
  socket.on("ask", (question, answer) => answer(`you said ${question}`));
  await event(socket, "connect", "connect_error");
  const bytes = Buffer.from([0, 255, 1]);
  const [text, binary] = await socket.emitWithAck("echo", "grüße", bytes);
  equal([text, Buffer.compare(Buffer.from(binary), bytes)], ["grüße", 0]);
  equal(await socket.emitWithAck("question", "why"), "you said why");
  const { engine } = socket.io;
  if (engine.transport.name !== transport) await event(engine, "upgrade");
  equal(engine.transport.name, transport);
  equal(await socket.emitWithAck("question", "how"), "you said how");
  socket.close();
}

await main({
  serve() {
    const server = http.createServer();
    new Server(server).on("connection", (socket) => {
      socket.on("echo", (text, bytes, answer) => answer([text, bytes]));
      socket.on("question", async (text, answer) => answer(await socket.emitWithAck("ask", text)));
    });
    listen(server);
  },
  websocket: () => talk({ transports: ["websocket"] }, "websocket"),
  upgrade: () => talk({}, "websocket"),
  polling: () => talk({ transports: ["polling"] }, "polling"),
  async refused() {
    const socket = connect({ transports: ["polling"] });
    const [error] = await event(socket, "connect_error", "connect");
    equal(error.context?.status ?? error.description, 426);
  },
});
