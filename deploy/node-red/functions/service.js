// "online", "stopped" after an orderly end, "offline" by the last will of a service that is gone.
const online = msg.payload === "online";
node.status({ fill: online ? "green" : "red", shape: online ? "dot" : "ring", text: msg.payload });
return msg;
