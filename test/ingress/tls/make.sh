#!/bin/sh
# Makes the keys and certificates of these tests anew. They protect nothing.
set -eu
cd "$(dirname "$0")"
days=36500
authority() { # name
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days $days -subj "/CN=$1" -keyout "$1-key.pem" -out "$1.pem"
}
signed() { # name, common name, authority, extension
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" -keyout "$1-key.pem" -out "$1.csr"
  printf '%s\n' "$4" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$3.pem" -CAkey "$3-key.pem" -CAcreateserial -days $days -extfile "$1.ext" -out "$1.pem"
  rm "$1.csr" "$1.ext"
}
authority ca
authority stranger-ca
signed server localhost ca 'subjectAltName=DNS:localhost,IP:127.0.0.1'
signed server-2 localhost-2 ca 'subjectAltName=DNS:localhost,IP:127.0.0.1'
signed pump-17 pump-17 ca 'extendedKeyUsage=clientAuth'
signed stranger pump-17 stranger-ca 'extendedKeyUsage=clientAuth'
rm -f ./*.srl ca-key.pem stranger-ca-key.pem
