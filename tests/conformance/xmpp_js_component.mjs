// A component as xmpp.js's documentation writes one: run as a process, told all by XMPP_*.
//
// It answers pings and reconnects by itself. XMPP_JS is the directory in which
// `npm install @xmpp/component` was run.

import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.env.XMPP_JS, "index.js"));
const { component } = await import(pathToFileURL(require.resolve("@xmpp/component")));

const xmpp = component({
  service: `xmpp://${process.env.XMPP_HOST}:${process.env.XMPP_PORT}`,
  domain: process.env.XMPP_DOMAIN,
  password: process.env.XMPP_SECRET,
});

xmpp.on("error", (error) => console.error(String(error)));
xmpp.iqCallee.get("urn:xmpp:ping", "ping", () => true);
await xmpp.start().catch((error) => console.error(String(error)));
