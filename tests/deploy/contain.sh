#!/bin/sh
# What a container engine does for the image, done by hand: run as root, within `unshare --mount`.
#
#   contain.sh build PYTHON FOLDER         run the Dockerfile's steps on FOLDER/source; /opt/stream-detector
#                                          is FOLDER/image. PYTHON is what stands in /usr/local there, or -
#   contain.sh run PYTHON FOLDER UID WORD...
#                                          run WORD... as UID: a root file system that nobody can write,
#                                          a fresh /tmp, no capability; FOLDER/{image,etc,secrets,data} are
#                                          /opt/stream-detector, /etc/stream-detector, /secrets and
#                                          /var/lib/stream-detector
set -eu
task=$1 python=$2 folder=$3
shift 3

readonly_bind() { mount --bind "$1" "$2" && mount -o remount,ro,bind "$2"; }

if [ "$task" = build ]; then
    mkdir -p "$folder/image" "$folder/opt/stream-detector"
    for here in /opt/*/; do # what else stands in /opt stays there
        [ -d "$here" ] || continue
        mkdir -p "$folder$here"
        mount --rbind "$here" "$folder$here"
    done
    mount --bind "$folder/image" "$folder/opt/stream-detector"
    mount --rbind "$folder/opt" /opt
    [ "$python" = - ] || mount --bind "$python" /usr/local
    cd "$folder/source"
    for step in dependencies package; do
        PATH=/usr/local/bin:/usr/bin:/bin sh deploy/build-image.sh $step /opt/stream-detector
    done
    exit
fi

uid=$1
shift
root=$folder/root
mkdir -p "$root"
mount -t tmpfs tmpfs "$root"
mkdir -p "$root/usr" "$root/proc" "$root/dev" "$root/tmp" "$root/opt/stream-detector" \
    "$root/etc/stream-detector" "$root/secrets" "$root/var/lib/stream-detector"
for name in bin lib lib64 sbin; do
    ln -s usr/$name "$root/$name"
done
cp -R /etc/ld.so.conf /etc/ld.so.conf.d /etc/nsswitch.conf /etc/hosts "$root/etc/"
mount --bind /usr "$root/usr"
[ "$python" = - ] || mount --bind "$python" "$root/usr/local"
chroot "$root" /sbin/ldconfig -X # /usr/local has libraries of its own now
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs -o size=64m,mode=1777,noexec,nosuid,nodev tmpfs "$root/tmp"
mount --bind "$folder/data" "$root/var/lib/stream-detector"
readonly_bind "$folder/image" "$root/opt/stream-detector"
readonly_bind "$folder/etc" "$root/etc/stream-detector"
readonly_bind "$folder/secrets" "$root/secrets"
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all "$@"
