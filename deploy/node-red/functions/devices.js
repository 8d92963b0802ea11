// A table of all devices and their states. A device that was forgotten sends an empty message.
// Only changes go on: a reconnect brings every retained state again.
const LIMIT = 10000;

const devices = context.get("devices") || {};
const before = devices[msg.topic];
const state = msg.payload === "" ? null : JSON.parse(msg.payload);
if (state === null) {
    delete devices[msg.topic];
} else if (before !== undefined || Object.keys(devices).length < LIMIT) {
    devices[msg.topic] = state.state;
}
context.set("devices", devices);

const counts = {};
for (const name of Object.values(devices)) {
    counts[name] = (counts[name] || 0) + 1;
}
const text = Object.keys(counts).sort().map((name) => `${counts[name]} ${name}`).join(", ") || "no device";
node.status({ fill: counts.alerting || counts.silent ? "red" : "green", shape: "dot", text });
if (state === null || state.state === before) {
    return null;
}
msg.payload = state;
return msg;
