// An example, switched off: warnings that are raised acknowledge themselves.
const event = msg.payload;
if (event.event !== "raise" || event.severity !== "warning") {
    return null;
}
return { command: "ack", payload: { id: event.id, by: "node-red", comment: "warnings only go on record" } };
