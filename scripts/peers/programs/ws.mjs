// ws: compression end to end, a subprotocol, a token as subprotocol, TLS, large messages, codes.
import http from "node:http";
import { WebSocket, WebSocketServer } from "ws";
import { ca, equal, event, headers, listen, main, ws, wss, token } from "./lib.mjs";

function serve() {
  const server = http.createServer();
  const sockets = new WebSocketServer({
    server,
    path: "/echo",
    perMessageDeflate: { threshold: 0 },
    handleProtocols: (offered) => (offered.has("chat") ? "chat" : false),
  });
  sockets.on("connection", (socket) =>
    socket.on("message", (data, binary) => {
      if (`${data}` === "bye") socket.close(4001, "as asked");
      else socket.send(data, { binary });
    }),
  );
  listen(server);
}

async function talk(socket) {
  await event(socket, "open");
  equal(socket.protocol, "chat");
  equal(socket.extensions, "permessage-deflate");
  for (const sent of ["grüße", "x".repeat(1_000_000)]) {
    socket.send(sent);
    const [data, binary] = await event(socket, "message");
    equal([`${data}`, binary], [sent, false]);
  }
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
  socket.send(bytes, { binary: true });
  equal(await event(socket, "message"), [bytes, true]);
  socket.ping("p");
  equal(`${(await event(socket, "pong"))[0]}`, "p");
  socket.send("bye");
  const [code, reason] = await event(socket, "close");
  equal([code, `${reason}`], [4001, "as asked"]);
}

await main({
  serve,
  header: () => talk(new WebSocket(`${ws}/echo`, ["chat"], { headers })),
  subprotocol: () => talk(new WebSocket(`${wss}/echo`, ["bearer", token, "chat"], { ca })),
  root: () => talk(new WebSocket(ws, ["chat"], { headers })),
  async refused() {
    const [, answer] = await event(new WebSocket(`${ws}/echo`), "unexpected-response");
    equal(answer.statusCode, 401);
    equal(answer.headers["content-type"].startsWith("application/json"), true);
  },
});
