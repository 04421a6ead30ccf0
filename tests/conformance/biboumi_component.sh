# biboumi, an IRC gateway, as a component that is told all by XMPP_*.
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cat >"$directory/biboumi.cfg" <<END
hostname=$XMPP_DOMAIN
password=$XMPP_SECRET
xmpp_server_ip=$XMPP_HOST
port=$XMPP_PORT
db_name=$directory/biboumi.sqlite
log_level=3
identd_port=0
END
biboumi "$directory/biboumi.cfg" &
trap 'kill -TERM $!' TERM
wait $!
wait $!
