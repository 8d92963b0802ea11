#!/bin/sh
# The secrets of the compose plant: made once, by chance, in the volume that the services read.
#
#   secrets.sh FOLDER ACL               make what is missing, and the broker's files
#   secrets.sh FOLDER ACL add NAME      a login for a device or a person, its password shown
#   secrets.sh FOLDER ACL show NAME     the password of a login
#
# Each file belongs to the one user that reads it, mode 0400: a container sees the volume, and can read
# only what is its own. Runs as root, in the image of Mosquitto.
set -eu
umask 077
folder=$1 acl=$2 task=${3:-make} name=${4:-}
mosquitto=1883 detector=10001 grafana=472 node_red=1000 nobody=65534

random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

# put FILE UID: what comes on stdin becomes a file of that user, whole or not at all
put() {
    cat >"$folder/.new"
    chmod 0400 "$folder/.new"
    chown "$2:$2" "$folder/.new"
    mv "$folder/.new" "$folder/$1"
}

# secret FILE UID: random, if it is not there yet
secret() { [ -s "$folder/$1" ] || random | put "$1" "$2"; }

# Mosquitto's own list of passwords, hashed, from all logins; no password stands in a command line
list_logins() {
    for file in "$folder"/logins/*; do
        echo "$(basename "$file"):$(cat "$file")"
    done >"$folder/.plain"
    mosquitto_passwd -U "$folder/.plain"
    put mosquitto/passwords $mosquitto <"$folder/.plain"
    rm -f "$folder/.plain"
}

case $name in
    *[!A-Za-z0-9_.-]* | .*)
        echo "secrets.sh: '$name' is no name for a login: letters, digits, '_', '.', '-'" >&2
        exit 2
        ;;
esac
mkdir -p "$folder/logins" "$folder/mosquitto"
chmod 0755 "$folder" "$folder/logins" "$folder/mosquitto"
case $task in
    make)
        secret logins/detector $detector
        secret logins/simulator $detector
        secret logins/node-red $node_red
        secret logins/health $mosquitto
        secret logins/operator $nobody
        secret http-token $detector
        secret grafana-admin $grafana
        secret node-red-admin $node_red
        secret node-red-credentials $node_red
        ;;
    add)
        [ -n "$name" ] || { echo "secrets.sh: add whom?" >&2; exit 2; }
        secret "logins/$name" $nobody
        cat "$folder/logins/$name"
        ;;
    show)
        [ -s "$folder/logins/$name" ] || { echo "secrets.sh: there is no login '$name'" >&2; exit 1; }
        cat "$folder/logins/$name"
        exit
        ;;
    *)
        echo "secrets.sh: there is no task '$task'; write make, add or show" >&2
        exit 2
        ;;
esac
put mosquitto/acl $mosquitto <"$acl"
list_logins
