// MQTT.js against aedes (behind ws) or any other broker: QoS 0 to 2, retained messages, a will.
import http from "node:http";
import { Aedes } from "aedes";
import mqtt from "mqtt";
import { createWebSocketStream, WebSocketServer } from "ws";
import { equal, event, headers, listen, main, ws } from "./lib.mjs";

async function talk(protocolVersion) {
  const options = { wsOptions: { headers }, protocolVersion, reconnectPeriod: 0 };
  const client = await mqtt.connectAsync(`${ws}/mqtt`, options);
  equal(client.stream.socket?.protocol ?? "mqtt", "mqtt");
  for (const qos of [0, 1, 2]) {
    await client.subscribeAsync(`rooms/${qos}`, { qos });
    const received = event(client, "message");
    await client.publishAsync(`rooms/${qos}`, `grüße ${qos}`, { qos });
    const [topic, payload] = await received;
    equal([topic, `${payload}`], [`rooms/${qos}`, `grüße ${qos}`]);
  }
  await client.endAsync();
}

await main({
  async serve() {
    const broker = await Aedes.createBroker();
    const server = http.createServer();
    const sockets = new WebSocketServer({ server, handleProtocols: (offered) => offered.has("mqtt") && "mqtt" });
    sockets.on("connection", (socket, request) => broker.handle(createWebSocketStream(socket), request));
    listen(server);
  },
  v3: () => talk(4),
  v5: () => talk(5),
});
