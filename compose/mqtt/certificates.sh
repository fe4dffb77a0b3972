#!/bin/sh
# Certificates to try TLS with: an authority of your own, one for the gateway, and one for each device.
#   sh certificates.sh FOLDER HOST [DEVICE ...]
# HOST is the name, or the IPv4 address, by which devices reach the gateway. What is there already stays, so that a device can be added later.
# For a plant, take them from the authority that it has.
set -eu
folder=$1 host=$2
shift 2
mkdir -p "$folder"
cd "$folder"
umask 077

key() { # file
  openssl ecparam -name prime256v1 -genkey -noout -out "$1"
}
signed() { # file without its ending, common name, extension
  [ -e "$1.pem" ] && return
  key "$1-key.pem"
  printf '%s\n' "$3" > "$1.ext"
  openssl req -new -key "$1-key.pem" -subj "/CN=$2" |
    openssl x509 -req -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 825 -extfile "$1.ext" -out "$1.pem" 2> /dev/null
  rm "$1.ext"
  echo "$folder/$1.pem"
}

if [ ! -e ca.pem ]; then
  key ca-key.pem
  openssl req -x509 -new -key ca-key.pem -days 3650 -subj '/CN=Millrace trial authority' -out ca.pem
  echo "$folder/ca.pem"
fi
case $host in
  *[!0-9.]*) names="DNS:$host,IP:127.0.0.1" ;;
  *) names="IP:$host" ;;
esac
signed server "$host" "subjectAltName=$names"
for device in "$@"; do
  signed "$device" "$device" 'extendedKeyUsage=clientAuth'
done
