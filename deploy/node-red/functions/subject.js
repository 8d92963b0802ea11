// For a person: msg.topic becomes the subject, msg.alert keeps the event for the text.
const WORDS = { raise: "raised", update: "got worse", clear: "is over", ack: "is acknowledged" };

const event = msg.payload;
const word = WORDS[event.event] || event.event;
msg.alert = event;
msg.topic = `${event.severity}: ${event.stream}/${event.device} ${event.kind} alert ${word}`;
return msg;
