// Unmodified pusher-js: reports what it meets as one JSON line an event, and obeys one-line orders on standard input.
"use strict";
const Pusher = require("pusher-js");
const say = (what, data) => process.stdout.write(JSON.stringify({ what, data }) + "\n");
const [host, port, key, apiKey, machine, activityTimeout] = process.argv.slice(2);
const pusher = new Pusher(key, {
  cluster: "", wsHost: host, wsPort: Number(port), forceTLS: false, enabledTransports: ["ws"], disableStats: true,
  activityTimeout: Number(activityTimeout), pongTimeout: 20000,
  channelAuthorization: {
    endpoint: `http://${host}:${port}/broadcasting/auth`,
    headers: { "X-RVM-API-KEY": apiKey, "X-Machine-UUID": machine },
  },
});
pusher.connection.bind("state_change", (states) => say("state", states.current));
pusher.connection.bind("error", (error) => say("error", (error.error || error).data || String(error)));
pusher.connection.bind("message", (frame) => say("message", frame.event));
const orders = {
  subscribe: (channel) => pusher.subscribe(channel).bind_global((event, data) => say("event", { event, data })),
  unsubscribe: (channel) => pusher.unsubscribe(channel),
  trigger: (channel, name, data) => pusher.channel(channel).trigger(name, data),
  members: (channel) => say("members", pusher.channel(channel).members.count),
  disconnect: () => pusher.disconnect(),
};
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const [order, ...rest] = JSON.parse(line);
  orders[order](...rest);
});
