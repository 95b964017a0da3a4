// Servers in Node that say in the header X-Read which topic they were asked for.
// Usage: node readers.js FIRST_PORT; the ports are those of readers.py.
"use strict";
const http = require("http");
const legacy = require("url");
const first = Number(process.argv[2]);
const headers = { maxHeaderSize: 65536, keepAliveTimeout: 600000, maxRequestsPerSocket: 0 };

function topic(path, room) {
  const parts = path.split("/");
  if (parts.length > 2 && parts[parts.length - 1] === "") parts.pop();
  if (parts.length === 2 && parts[1] === "ws") return room === "admin" ? "ws-admin" : "ws";
  if (parts.length < 3 || parts.length > 4 || parts[1] !== "r" || parts[2] === "") return "none";
  if (parts.length === 3) return parts[2] === "admin" ? "admin" : "id";
  return parts[3] === "keys" ? "keys" : "part";
}

const named = (url) => topic(url.pathname, url.searchParams.get("room"));
const readers = [
  (text) => named(new URL(text, "http://h")),
  (text) => {
    const url = new URL(text, "http://h");
    return topic(decodeURIComponent(url.pathname), url.searchParams.get("room"));
  },
  (text) => named(new URL(decodeURIComponent(text), "http://h")),
  (text) => {
    const url = legacy.parse(text, true);
    return topic(decodeURIComponent(url.pathname), url.query.room);
  },
];
readers.forEach((read, index) => {
  http.createServer(headers, (request, response) => {
    let answer = "none";
    try { answer = read(request.url); } catch (error) { answer = "error"; }
    response.setHeader("X-Read", answer);
    response.end();
  }).listen(first + index, "127.0.0.1");
});

["express4", "express5"].forEach((name, index) => {
  const app = require(name)();
  const say = (answer) => (request, response) => response.set("X-Read", answer).end();
  app.get("/r/admin", say("admin"));
  app.get("/r/:id", say("id"));
  app.get("/r/:id/keys", say("keys"));
  app.get("/r/:id/:part", say("part"));
  app.get("/ws", (request, response) =>
    say([].concat(request.query.room).includes("admin") ? "ws-admin" : "ws")(request, response));
  app.use((request, response) => response.status(404).set("X-Read", "none").end());
  app.use((error, request, response, next) => response.status(400).set("X-Read", "error").end());
  http.createServer(headers, app).listen(first + readers.length + index, "127.0.0.1");
});
process.stdin.on("end", () => process.exit(0)).resume();
