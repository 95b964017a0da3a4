// STOMP 1.1: @stomp/stompjs. Its binary messages are what a broker behind websockify takes.
import { Client, Versions } from "@stomp/stompjs";
import { WebSocket } from "ws";
import { equal, headers, main, ws } from "./lib.mjs";

function exchange(text) {
  return new Promise((resolve, reject) => {
    const client = new Client({
      webSocketFactory: () => new WebSocket(`${ws}/stomp`, ["v11.stomp", "binary"], { headers }),
      forceBinaryWSFrames: true,
      reconnectDelay: 0,
      heartbeatIncoming: 0,
      heartbeatOutgoing: 0,
      stompVersions: new Versions([Versions.V1_1]), // CoilMQ takes 1.2 for one host name only
      onConnect() {
        client.subscribe("/topic/rooms", ({ body }) => resolve(body));
        client.publish({ destination: "/topic/rooms", body: text });
      },
      onStompError: ({ headers: { message }, body }) => reject(new Error(`${message} ${body}`)),
      onWebSocketClose: ({ code, reason }) => reject(new Error(`closed: ${code} ${reason}`)),
    });
    client.activate();
  });
}

await main({
  async stompjs() {
    equal(await exchange("grüße"), "grüße");
  },
});
