// A component as the documentation of xmpp.js writes one: run as a process, told all by XMPP_*.
//
// It answers pings and echoes messages; it reconnects by itself, as xmpp.js does.

const { component, xml } = require("@xmpp/component");

const { XMPP_HOST, XMPP_PORT, XMPP_DOMAIN, XMPP_SECRET } = process.env;

const xmpp = component({
  service: `xmpp://${XMPP_HOST}:${XMPP_PORT}`,
  domain: XMPP_DOMAIN,
  password: XMPP_SECRET,
});

xmpp.iqCallee.get("urn:xmpp:ping", "ping", () => true);

xmpp.on("stanza", async (stanza) => {
  if (!stanza.is("message") || stanza.attrs.type === "error") return;
  if (!stanza.getChild("body")) return;
  const { from, to, type, id } = stanza.attrs;
  await xmpp.send(
    xml("message", { from: to, to: from, type, id }, xml("body", {}, stanza.getChildText("body"))),
  );
});

xmpp.on("error", (error) => console.error(String(error)));
process.on("SIGTERM", async () => {
  await xmpp.stop();
  process.exit(0);
});
xmpp.start().catch((error) => console.error(String(error)));
