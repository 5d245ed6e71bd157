#!/bin/sh
# What the guest does after its start, as root; the kernel's command line names the task and the checkout's folder.
# Everything it prints is in guest.log of the task's folder on the machine outside, also after a power cut.
argument() { sed -n "s/.*myrvm\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
task=$(argument task) home=$(argument home)
exec >>/out/guest.log 2>&1
echo "$task: up after $(cut -d' ' -f1 /proc/uptime) s, Linux $(uname -r)"

# The checkout under its own path, with the guest's environment in the place of the desk's.
mkdir -p "$home" && mount --bind /source "$home" && . "$home/.venv/desk.sh" && mount --bind /opt/venv "$home/.venv"
export HOME=/root PYTHONDONTWRITEBYTECODE=1 MYRVM_TIME_FACTOR=20  # rclpy finds no folder for its logs without HOME
cd "$home" || exit 1

case $task in
try)
  sh /out/try.sh
  ;;
conformance | low-battery)
  for module in gpio-simulator test_power iio_simple_dummy; do modprobe "$module"; done
  modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x00
  udevadm settle
  export MYRVM_CONFORMANCE_CHIP=gpio-sim MYRVM_CONFORMANCE_RESULTS=/out/gpio-sim.jsonl
  [ "$task" = low-battery ] || python -m pytest --confcutdir tests/conformance --junitxml /out/junit.xml --durations 5 tests/conformance
  python tests/conformance/low_battery.py /out/low_battery && exec sleep 120  # systemd is on its way
  ;;
deposits-*)
  mount -t ext4 /dev/vdb /data && dmesg | sed -n 's/.*\(EXT4-fs (vdb): .*\)/\1/p' >>/out/file_system || poweroff -f
  python tests/powercut/guest.py /data/rvm /out/marks $(echo "${task#deposits-}" | tr + ' ')
  umount /data
  e2fsck -fn /dev/vdb && echo clean >>/out/file_system
  ;;
esac
sync
poweroff
