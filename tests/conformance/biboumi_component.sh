#!/bin/sh
# biboumi (an IRC gateway) as a component: run as a process, told all by XMPP_*.
directory=$(mktemp -d)
cat > "$directory/biboumi.cfg" <<END
hostname=$XMPP_DOMAIN
password=$XMPP_SECRET
xmpp_server_ip=$XMPP_HOST
port=$XMPP_PORT
db_name=$directory/biboumi.sqlite
log_level=1
END
exec biboumi "$directory/biboumi.cfg"
