// The same service by Node's socket.io, as its documentation writes it: rooms and broadcasts, settings
// as they come. Takes the same orders on its standard input as the Rust server.
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
  socket.on("join", (feed, answer) => {
    socket.join(feed);
    answer({ feed });
  });
});

function publish(feeds, rate, events, size) {
  const began = Date.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.min(events, Math.floor(((Date.now() - began) * rate) / 1000));
    for (; sent < due; sent++) {
      const feed = `f${sent % feeds}`;
      const number = String(Math.floor(sent / feeds)).padStart(10, "0");
      const micros = String(began * 1000 + Math.round((sent * 1e6) / rate)).padStart(16, "0");
      io.to(feed).emit(...photo(feed, `${feed}/${number}-${micros}.jpg`, size));
    }
    if (sent === events) clearInterval(timer);
  }, 1);
}

// What a signed URL is long; Node is spared the signing.
const URL_REST = "?" + "x".repeat(2000);

function photo(feed, key, size) {
  const event = { feed, key, eventName: "ObjectCreated:Put", eventTime: "2026-01-01T00:00:00Z", url: "" };
  const frame = 2 + JSON.stringify(["imageUploaded", event]).length;
  event.url = URL_REST.slice(0, Math.max(0, size - frame));
  return ["imageUploaded", event];
}

createInterface({ input: process.stdin })
  .on("line", (line) => publish(...line.split(" ").map(Number)))
  .on("close", () => process.exit());
http.listen(0, "127.0.0.1", () => console.log(http.address().port));
