// The exec subprotocols of Kubernetes. Its server is a small one of our own, for want of a real one
// in a package registry: channel 0 is standard input, 1 output, 3 the status.
import http from "node:http";
import { PassThrough } from "node:stream";
import { Exec, KubeConfig } from "@kubernetes/client-node";
import { WebSocket, WebSocketServer } from "ws";
import { base, caFile, equal, event, gateway, listen, main, token, wss } from "./lib.mjs";

const PATH = "/api/v1/namespaces/default/pods/shell/exec";

function serve(known) {
  const server = http.createServer();
  const handleProtocols = (offered) => known.find((name) => offered.has(name)) ?? false;
  const sockets = new WebSocketServer({ server, handleProtocols });
  sockets.on("connection", (socket, request) => {
    const { pathname, searchParams } = new URL(request.url, "ws://server");
    if (pathname !== PATH || request.headers.authorization) return socket.close(1008, pathname);
    if (socket.protocol === "base64.binary.k8s.io") return socket.on("message", (data) => socket.send(`${data}`));
    const channel = (number, text) => socket.send(Buffer.concat([Buffer.from([number]), Buffer.from(text)]));
    channel(1, `ran ${searchParams.getAll("command").join(" ")}\n`);
    socket.on("message", (data) => {
      if (data[0] !== 0 || data.length === 1) return;
      channel(1, data.subarray(1));
      channel(3, '{"metadata":{},"status":"Success"}');
      socket.close(1000);
    });
  });
  listen(server);
}

await main({
  serve: () => serve(["v5.channel.k8s.io", "base64.binary.k8s.io"]),
  "serve-v4": () => serve(["v4.channel.k8s.io"]),
  async exec() {
    const config = new KubeConfig();
    config.loadFromClusterAndUser(
      { name: "gateway", server: gateway + base, caFile },
      { name: "user", token },
    );
    const [input, output, errors] = [new PassThrough(), new PassThrough(), new PassThrough()];
    const heard = [];
    output.on("data", (data) => heard.push(data));
    const ended = new Promise((resolve) => {
      const command = ["cat", "-u"];
      const exec = new Exec(config);
      resolve(
        new Promise((status, fail) => {
          exec.exec("default", "shell", "main", command, output, errors, input, false, status).catch(fail);
        }),
      );
    });
    input.write("grüße");
    equal((await ended).status, "Success");
    equal(`${Buffer.concat(heard)}`, "ran cat -u\ngrüße");
  },
  async browser() {
    const hidden = `base64url.bearer.authorization.k8s.io.${Buffer.from(token).toString("base64url")}`;
    const socket = new WebSocket(wss + PATH, [hidden, "base64.binary.k8s.io"]);
    await event(socket, "open");
    equal(socket.protocol, "base64.binary.k8s.io");
    socket.send("Z3LDvMOfZQ==");
    equal(`${(await event(socket, "message"))[0]}`, "Z3LDvMOfZQ==");
  },
});
