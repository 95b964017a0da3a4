// graphql-ws: queries, subscriptions, keep-alive, complete by the client.
import http from "node:http";
import { GraphQLInt, GraphQLObjectType, GraphQLSchema, GraphQLString } from "graphql";
import { createClient } from "graphql-ws";
import { useServer } from "graphql-ws/use/ws";
import { WebSocket, WebSocketServer } from "ws";
import { equal, headers, listen, main, ws } from "./lib.mjs";

const schema = new GraphQLSchema({
  query: new GraphQLObjectType({
    name: "Query",
    fields: { greet: { type: GraphQLString, args: { name: { type: GraphQLString } }, resolve: (_, { name }) => `hello ${name}` } },
  }),
  subscription: new GraphQLObjectType({
    name: "Subscription",
    fields: {
      count: {
        type: GraphQLInt,
        args: { to: { type: GraphQLInt } },
        async *subscribe(_, { to }) {
          for (let count = 1; count <= to; count++) yield { count };
        },
      },
    },
  }),
});

class Authorized extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { headers });
  }
}

async function talk(url) {
  const client = createClient({ url, webSocketImpl: Authorized, retryAttempts: 0 });
  const collect = async (query, variables) => {
    const found = [];
    for await (const { data } of client.iterate({ query, variables })) found.push({ ...data });
    return found;
  };
  const query = "query ($name: String) { greet(name: $name) }";
  equal(await collect(query, { name: "you" }), [{ greet: "hello you" }]);
  const counted = await collect("subscription { count(to: 100) }");
  equal(counted.map(({ count }) => count), Array.from({ length: 100 }, (_, index) => index + 1));
  await client.dispose();
}

await main({
  serve() {
    const server = http.createServer();
    useServer({ schema }, new WebSocketServer({ server, path: "/graphql" }));
    listen(server);
  },
  topic: () => talk(`${ws}/graphql`),
  root: () => talk(ws),
});
