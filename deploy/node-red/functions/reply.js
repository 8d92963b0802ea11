// Replies to everybody come here. Ours are those whose transaction waits; each is taken once.
// What went well leaves by the first output, what was refused by the second.
const reply = msg.payload;
const waiting = flow.get("waiting") || {};
const request = waiting[reply.transaction];
if (!request) {
    return null;
}
delete waiting[reply.transaction];
flow.set("waiting", waiting);

msg.request = request;
if (reply.ok) {
    node.status({ fill: "green", shape: "dot", text: `${request.command}: done` });
    return [msg, null];
}
node.status({ fill: "red", shape: "dot", text: `${request.command}: ${reply.error.code}` });
return [null, msg];
