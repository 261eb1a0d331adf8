#!/usr/bin/env bash
# How repart.img.gz and repart.crt were made, with systemd-repart 252 as root (it works on loop devices). Run in
# an empty folder. The key is thrown away; with another, only the signature partition differs.
set -eu
seq -w 1 100000 | head -c 40960 >data
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=verity vector' -keyout key.pem -out repart.crt
mkdir defs
cat >defs/10.conf <<EOF
[Partition]
Type=root
Label=vector_1
CopyBlocks=$PWD/data
SizeMinBytes=40K
SizeMaxBytes=40K
Verity=data
VerityMatchKey=root
EOF
cat >defs/20.conf <<EOF
[Partition]
Type=root-verity
SizeMinBytes=1M
SizeMaxBytes=1M
Verity=hash
VerityMatchKey=root
EOF
cat >defs/30.conf <<EOF
[Partition]
Type=root-verity-sig
Verity=signature
VerityMatchKey=root
EOF
systemd-repart --empty=create --size=auto --definitions=defs --private-key=key.pem --certificate=repart.crt \
	--dry-run=no --seed=00112233445566778899aabbccddeeff repart.img
gzip -9n repart.img
