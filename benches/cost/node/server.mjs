// The same service with Node's socket.io, as its documentation recommends: rooms, broadcasts and the default
// settings. Reads the same workloads from standard input as the Rust server.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { serveClient: false });

io.on("connection", (socket) => {
  for (const feed of socket.handshake.auth.feeds ?? []) {
    socket.join(feed);
    socket.emit("joined", { feed });
  }
  socket.on("join", (feed, reply) => {
    socket.join(feed);
    reply({ feed });
  });
});

function publish(feeds, rate, events, size) {
  const start = Date.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.min(events, Math.floor(((Date.now() - start) * rate) / 1000));
    for (; sent < due; sent++) {
      const feed = `f${sent % feeds}`;
      const number = String(Math.floor(sent / feeds)).padStart(10, "0");
      const micros = String(start * 1000 + Math.round((sent * 1e6) / rate)).padStart(16, "0");
      io.to(feed).emit(...photo(feed, `${feed}/${number}-${micros}.jpg`, size));
    }
    if (sent === events) clearInterval(timer);
  }, 1);
}

// As long as the query of a signed URL, without the cost of signing.
const URL_QUERY = "?" + "x".repeat(2000);

function photo(feed, key, size) {
  const event = { feed, key, eventName: "ObjectCreated:Put", eventTime: "2026-01-01T00:00:00Z", url: "" };
  const frame = 2 + JSON.stringify(["imageUploaded", event]).length;
  event.url = URL_QUERY.slice(0, Math.max(0, size - frame));
  return ["imageUploaded", event];
}

createInterface({ input: process.stdin })
  .on("line", (line) => publish(...line.split(" ").map(Number)))
  .on("close", () => process.exit());
http.listen(0, "127.0.0.1", () => console.log(http.address().port));
