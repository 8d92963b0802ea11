// Sends a command to the service. In: msg.command, "ack" or "feedback", and msg.payload with what it
// takes: id, by, comment, verdict. Without an id it is about the newest alert: for "ack" the newest
// that is open and not acknowledged. A command that nobody answers leaves by the second output.
const PATIENCE_S = 10;
const WAITING = 100;

const command = msg.command;
const alerts = flow.get("alerts") || {};
const fits = (alert) => command !== "ack" || (alert.open && !alert.acknowledged);
const newest = Object.keys(alerts).reverse().find((id) => fits(alerts[id]));
const id = (msg.payload && msg.payload.id) || newest;
if (!id) {
    node.status({ fill: "yellow", shape: "ring", text: `no alert for ${command}` });
    return null;
}

const transaction = `node-red-${RED.util.generateId()}`;
const waiting = flow.get("waiting") || {};
waiting[transaction] = { command, id };
const transactions = Object.keys(waiting);
if (transactions.length > WAITING) {
    delete waiting[transactions[0]];
}
flow.set("waiting", waiting);

setTimeout(() => {
    const still = flow.get("waiting") || {};
    if (still[transaction]) {
        delete still[transaction];
        flow.set("waiting", still);
        const message = `no answer within ${PATIENCE_S} s: is the service online, may this login send commands?`;
        node.status({ fill: "red", shape: "ring", text: `no answer to ${command}` });
        node.send([null, { request: { command, id }, payload: { error: { code: "no_answer", message } } }]);
    }
}, PATIENCE_S * 1000);

node.status({ fill: "blue", shape: "ring", text: `${command} sent` });
const payload = { ...msg.payload, transaction, id };
return [{ topic: `stream_detector/cmd/${command}`, payload }, null];
