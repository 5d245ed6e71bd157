#!/bin/bash
# Builds the device's virtual machine: Debian 12 with a real GPIO chip (gpio-sim), real V4L2 cameras (vivid), real systemd.
# Usage: build.sh (called by device_vm.py). Root, Debian 12, x86-64. Leaves var/device-vm/{vmlinuz,ramdisk.img,root.img}.
# Each step leaves a stamp of its own text and of what it was made from: the second call does nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=$(cd "$here/../.." && pwd)
work=${MYRVM_VM_FOLDER:-$home/var/device-vm}
packages=(qemu-system-x86 qemu-utils debootstrap busybox-static cpio e2fsprogs gcc make xz-utils)

fail() { echo "device-vm: $*" >&2; exit 1; }

step() {  # step NAME INPUT...: call the function NAME unless its stamp says that it was made from the same
  local name=$1 stamp="$work/.made-$1" digest begun
  shift
  digest=$({ declare -f "$name"; echo "$kernel"; cat "$@"; } | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" != "$digest" ] || return 0
  rm -f "$stamp"; echo "device-vm: $name ..."; begun=$SECONDS
  set +e; (set -e; cd "$work"; "$name") >"$work/$name.log" 2>&1; local failed=$?; set -e  # bash ignores -e left of ||
  [ "$failed" = 0 ] || { tail -n 15 "$work/$name.log" >&2; fail "$name failed; see $work/$name.log"; }
  echo "$digest" >"$stamp"; echo "device-vm: $name done in $((SECONDS - begun)) s"
}

unpack() {  # Debian's kernel, its headers to build modules against, and the sources of the simulators that it leaves out
  rm -rf kernel source download && mkdir -p kernel source download
  (cd download && apt-get download -q -o APT::Sandbox::User=root "linux-image-$kernel" linux-source-6.1)
  dpkg-deb -x download/linux-image-*.deb kernel
  cp "kernel/boot/vmlinuz-$kernel" vmlinuz
  dpkg-deb --fsys-tarfile download/linux-source-*.deb | tar -x -C download --wildcards '*/linux-source-6.1.tar.xz'
  tar -xJf download/usr/src/linux-source-6.1.tar.xz -C source --strip-components=1 --wildcards '*/drivers/gpio/gpio-sim.c' \
    '*/drivers/gpio/gpiolib.h' '*/kernel/irq/irq_sim.c' '*/drivers/power/supply/test_power.c' '*/drivers/iio/dummy/*' \
    '*/drivers/iio/industrialio-sw-device.c' '*/drivers/iio/industrialio-configfs.c'
  rm -rf download
}

modules() {  # gpio-sim, a test battery and an IIO device, which Debian's kernel has no modules of
  apt-get install -y -q --no-install-recommends "linux-headers-$kernel"
  rm -rf modules && mkdir modules && cp source/drivers/gpio/{gpio-sim.c,gpiolib.h} source/kernel/irq/irq_sim.c \
    source/drivers/power/supply/test_power.c source/drivers/iio/dummy/iio_simple_dummy.{c,h} \
    source/drivers/iio/industrialio-{sw-device,configfs}.c modules/
  sed -i 's/handle_simple_irq(irq_to_desc(irqnum))/generic_handle_irq(irqnum)/' modules/irq_sim.c  # irq_to_desc is not exported
  cat >modules/Makefile <<'MAKE'
obj-m := gpio-simulator.o test_power.o industrialio-configfs.o industrialio-sw-device.o iio_simple_dummy.o
gpio-simulator-y := gpio-sim.o irq_sim.o
MAKE
  make -C "/usr/src/linux-headers-$kernel" M="$PWD/modules" modules
}

system() {  # Debian 12 from the mirror that this machine's apt uses
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk '$2 == "bookworm" { print $1; exit }')
  [ -n "$mirror" ] || { echo "apt's sources name no mirror of Debian bookworm"; return 1; }
  rm -rf root
  debootstrap --variant=minbase --include=systemd,systemd-sysv,udev,dbus,kmod,python3,python3-venv,libglib2.0-0,procps,v4l-utils \
    bookworm root "$mirror"
}

python() {  # what the nodes import, pinned; fetched by the pip of this machine, installed without the network
  rm -rf wheels root/wheels root/opt/venv && mkdir wheels
  # Of the developer's packages only what runs tests.
  awk '/^[^ ]/ { wanted = $1 ~ /^(hypothesis|iniconfig|packaging|pluggy|pygments|pytest|pytest-timeout|pytest-asyncio|sortedcontainers)==/ } wanted' \
    "$home/requirements/dev.txt" >wheels/tests.txt
  cp "$home/requirements/desk.txt" wheels/
  for list in desk tests; do
    "$home/.venv/bin/python" -m pip wheel -q --disable-pip-version-check --no-deps --require-hashes -w wheels -r "wheels/$list.txt"
  done
  mv wheels root/wheels
  chroot root python3 -m venv /opt/venv
  chroot root sh -c '/opt/venv/bin/pip install -q --no-index --no-deps /wheels/*.whl'
  rm -rf root/wheels
}

image() {  # the RAM disk that mounts the disk, and the disk
  local name file
  rm -rf "root/lib/modules/$kernel" && mkdir -p "root/lib/modules/$kernel/extra" root/source root/out root/data
  cp -r "kernel/lib/modules/$kernel/." "root/lib/modules/$kernel/"
  cp modules/*.ko "root/lib/modules/$kernel/extra/"
  chroot root depmod "$kernel"
  cp "$here/device-vm.service" root/etc/systemd/system/
  chroot root systemctl enable -q device-vm.service
  cat >root/etc/fstab <<'FSTAB'
source /source 9p trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro 0 0
out /out 9p trans=virtio,version=9p2000.L,msize=262144,cache=none 0 0
FSTAB
  rm -rf ram && mkdir -p ram/{bin,proc,sys,dev,new} "ram/lib/modules/$kernel"
  cp /bin/busybox ram/bin/ && ln -s busybox ram/bin/sh && ln -s busybox ram/bin/modprobe
  for name in virtio_pci virtio_blk ext4 crc32c_generic 9p 9pnet_virtio; do
    chroot root modprobe -S "$kernel" --show-depends "$name" | awk '/insmod/ { print $2 }'
  done | sort -u | while read -r file; do mkdir -p "ram/$(dirname "$file")" && cp "root$file" "ram$file"; done
  cp "root/lib/modules/$kernel/modules.dep" "ram/lib/modules/$kernel/"
  cat >ram/init <<'INIT'
#!/bin/busybox sh
b=/bin/busybox; $b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev
for m in virtio_pci virtio_blk crc32c_generic ext4 9pnet_virtio 9p; do modprobe $m; done
while [ ! -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 /dev/vda /new && exec $b switch_root /new /sbin/init; exec sh
INIT
  chmod +x ram/init && (cd ram && find . | cpio -o -H newc | gzip >../ramdisk.img)
  rm -rf root.img ram && mke2fs -q -t ext4 -d root root.img 6G
}

[ "$(id -u)" = 0 ] || fail "needs root: debootstrap and chroot"
[ "$(. /etc/os-release && echo "$VERSION_CODENAME")" = bookworm ] || fail "is built on Debian 12 (bookworm) only"
mkdir -p "$work"
dpkg-query -W "${packages[@]}" >/dev/null 2>&1 || {
  echo "device-vm: installing from Debian: ${packages[*]}"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"; } >"$work/apt.log" 2>&1 ||
    fail "missing one of ${packages[*]}; apt-get could not install them, see $work/apt.log"
}
[ -x "$home/.venv/bin/python" ] || fail "needs the desk first: make setup"
"$home/.venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
  fail "the desk's Python must be Debian 12's, 3.11: the guest runs what was built for it"
stamped=$(cat "$work/.kernel" 2>/dev/null || true)  # a newer kernel in Debian is no reason to build anew
kernel=${stamped:-$(apt-cache depends linux-image-amd64 | awk '/Depends:/ { sub("linux-image-", "", $2); print $2; exit }')}
[ -n "$kernel" ] || fail "apt knows no linux-image-amd64: call apt-get update"
echo "$kernel" >"$work/.kernel"
step unpack
step modules "$work/.made-unpack"
step system
step python "$home/requirements/desk.txt" "$home/requirements/dev.txt" "$work/.made-system"
step image "$here/device-vm.service" "$work/.made-modules" "$work/.made-python"
