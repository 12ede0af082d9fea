#!/usr/bin/env bash
# Unpacks Debian 12's containerd and runc into .cache/containerd, once, and prints the folder: they are not installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=$PWD/.cache/containerd
if [ ! -e "$cache/ready" ]; then
  rm -rf "$cache"
  for package in containerd runc; do
    bash tools/debian.sh binary bookworm "$package" "$cache/packages"
  done
  for package in "$cache"/packages/*.deb; do dpkg-deb -x "$package" "$cache"; done
  touch "$cache/ready"
fi
echo "$cache"
