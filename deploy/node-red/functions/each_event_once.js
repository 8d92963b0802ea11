// The broker delivers an event at least once. One whose seq is not greater than the last seen for its id
// is a repetition and leaves by the second output. The book of alerts is bounded: the alert that was
// silent longest is forgotten first.
const REMEMBERED = 1000;

const event = msg.payload;
if (!event || event.schema !== "stream_detector.alert/1") {
    node.warn(`what came on ${msg.topic} is not an alert of stream_detector`);
    return null;
}
const alerts = flow.get("alerts") || {};
const last = alerts[event.id];
if (last && event.seq <= last.seq) {
    return [null, msg];
}
delete alerts[event.id]; // so that it stands last: the newest
alerts[event.id] = {
    seq: event.seq,
    device: `${event.stream}/${event.device}`,
    open: event.event !== "clear",
    acknowledged: event.acknowledged,
};
const ids = Object.keys(alerts);
if (ids.length > REMEMBERED) {
    delete alerts[ids[0]];
}
flow.set("alerts", alerts);

const open = Object.values(alerts).filter((alert) => alert.open).length;
node.status({ fill: open ? "red" : "green", shape: "dot", text: `${open} open` });
return [msg, null];
