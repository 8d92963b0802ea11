// Node-RED beside stream_detector, also in a container whose only writable folder is /data.
//
// What is secret comes from a variable, NAME, or better from a file, NAME_FILE:
//   MQTT_HOST, MQTT_PORT, MQTT_USER, MQTT_PASSWORD    where the broker is, and the login there
//   NODE_RED_PASSWORD                                 of the user admin of the editor; without it the
//                                                     editor is open, but only to this machine
//   NODE_RED_CREDENTIAL_SECRET                        encrypts what is secret in the flows

const fs = require("fs");
const path = require("path");
const { createHash, timingSafeEqual } = require("crypto");

const BROKER = { MQTT_HOST: "localhost", MQTT_PORT: "1883", MQTT_USER: "", MQTT_PASSWORD: "" };
const userDir = process.env.NODE_RED_USER_DIR || "/data";

function secret(name) {
    const file = process.env[`${name}_FILE`];
    return file ? fs.readFileSync(file, "utf8").trim() : process.env[name];
}

// A fresh volume gets the flow once; from then on it is the user's own.
function bringTheFlow() {
    const target = path.join(userDir, "flows.json");
    if (fs.existsSync(target)) {
        return;
    }
    const flows = JSON.parse(fs.readFileSync(path.join(__dirname, "flows.json"), "utf8"));
    const credentials = {}; // Node-RED keeps them beside the flows; these are names of variables, no secrets
    for (const node of flows) {
        if (node.credentials) {
            credentials[node.id] = node.credentials;
            delete node.credentials;
        }
    }
    fs.writeFileSync(path.join(userDir, "flows_cred.json"), JSON.stringify(credentials), { mode: 0o600 });
    fs.writeFileSync(target, JSON.stringify(flows, null, 4));
}

function login(password) {
    const digest = (text) => createHash("sha256").update(text).digest();
    const admin = { username: "admin", permissions: "*" };
    return {
        type: "credentials",
        users: async (name) => (name === "admin" ? admin : null),
        authenticate: async (name, given) =>
            name === "admin" && timingSafeEqual(digest(given), digest(password)) ? admin : null,
    };
}

bringTheFlow();
for (const [name, otherwise] of Object.entries(BROKER)) {
    process.env[name] = secret(name) || otherwise; // the broker node of the flow reads it there
}
const password = secret("NODE_RED_PASSWORD");

module.exports = {
    userDir,
    flowFile: "flows.json",
    flowFilePretty: true,
    credentialSecret: secret("NODE_RED_CREDENTIAL_SECRET"),

    uiPort: 1880,
    uiHost: password ? "0.0.0.0" : "127.0.0.1",
    ...(password ? { adminAuth: login(password) } : {}),

    // What was seen outlives a restart, so that an event is not taken for a new one.
    contextStorage: { default: { module: "localfilesystem" } },
    mqttReconnectTime: 5000,

    // Nothing is installed from a flow or from the editor, and nothing is told to others.
    functionExternalModules: false,
    externalModules: {
        autoInstall: false,
        palette: { allowInstall: false, allowUpload: false },
        modules: { allowInstall: false },
    },
    telemetry: { enabled: false, updateNotification: false },
    diagnostics: { enabled: false, ui: false },
    editorTheme: { tours: false, projects: { enabled: false } },
    logging: { console: { level: "info", metrics: false, audit: false } },
};
