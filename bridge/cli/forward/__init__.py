"""`xmpp-bridge forward`: takes events of pulled components, and POSTs them as the bridge would.

`client` speaks to the bridge, `forwarder` is the loop between it and the service, `command` has the
options.
"""
