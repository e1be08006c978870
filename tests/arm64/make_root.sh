#!/usr/bin/env bash
# make_root.sh FOLDER: an arm64 Python with numpy and onnxruntime, and the emulator that runs it on x86-64.
#
# FOLDER/system holds Debian's arm64 packages, FOLDER/packages the wheels, FOLDER/qemu the emulator. Everything comes from
# the system's own package sources and pip's, is only unpacked, and needs no superuser: remove FOLDER and it is gone.
# Needs apt-get and dpkg of Debian (sources of other systems may hold no arm64 packages). PYTHON names the pip to use.
#
# onnxruntime 1.31 crashes on import under this emulator; 1.23.2 runs.
set -euo pipefail
folder="$(mkdir -p "$1" && cd "$1" && pwd)"
python="${PYTHON:-python3}"

# Download the packages $3... with what they need, for the architecture $2, as if nothing were installed.
download() {
  local state="$folder/apt-$1" architecture="$2"
  shift 2
  mkdir -p "$state"/{lists,archives}/partial
  : > "$state/status"
  local options=(-qq -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture" -o "Dir::State=$state"
    -o "Dir::State::lists=$state/lists" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state"
    -o "Dir::Cache::archives=$state/archives" -o Debug::NoLocking=1 -o APT::Install-Recommends=0
    -o "APT::Sandbox::User=$(id -un)")
  apt-get "${options[@]}" update
  apt-get "${options[@]}" --yes --download-only install "$@"
}

unpack() { # DESTINATION ARCHIVE...
  local destination="$1"
  shift
  mkdir -p "$destination"
  for archive in "$@"; do dpkg -x "$archive" "$destination"; done
}

download arm64 arm64 python3 libpython3-stdlib libstdc++6
unpack "$folder/system" "$folder"/apt-arm64/archives/*.deb
download host "$(dpkg --print-architecture)" qemu-user-static
unpack "$folder/qemu" "$folder"/apt-host/archives/qemu-user-static*.deb
version="$(ls "$folder/system/usr/bin" | sed -n 's/^python\(3\.[0-9]*\)$/\1/p')"
"$python" -m pip --disable-pip-version-check --quiet download --no-deps --only-binary=:all: --dest "$folder/wheels" \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
  --python-version "$version" numpy==2.2.6 onnxruntime==1.23.2
for wheel in "$folder"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$folder/packages"; done
ln -sfn "system/usr/bin/python$version" "$folder/python"
ln -sfn qemu/usr/bin/qemu-aarch64-static "$folder/emulator"
rm -rf "$folder"/apt-arm64 "$folder"/apt-host "$folder/wheels"
touch "$folder/.done"
