# Runs in the guest, as root, on the serial console: each run's tests as who it is, in the control group it is given.
# What the host must know goes to the second serial port: a line with a run's name and pytest's status, then its JUnit report.
cd /opt/project || exit 1
export PYTHONDONTWRITEBYTECODE=1 CI=1 ONDOL_TEST_CGROUPS=1
. /opt/project/settings

stty -F /dev/ttyS1 raw
mount -t tmpfs -o mode=1777 none /mnt
uname -sr
systemctl --version | head -1
grep cgroup /proc/self/mountinfo

passed_on="-E CI -E PYTHONDONTWRITEBYTECODE -E ONDOL_TEST_PATIENCE -E ONDOL_TEST_CGROUPS -E ONDOL_TEST_AS"
unit="systemd-run --quiet --wait --pipe --collect -p Delegate=yes --working-directory=/opt/project $passed_on"

# run NAME WHAT TESTS COMMAND...: pytest behind the command, if this run is wanted.
run() {
	name=$1 what=$2 tests=$3
	shift 3
	case ",$RUNS," in *",$name,"*) ;; *) return ;; esac
	echo "== $name: $what"
	"$@" python3 -m pytest -p no:cacheprovider "--junitxml=/mnt/$name.xml" $ARGUMENTS $tests
	status=$?
	{
		echo "run $name $status"
		[ ! -e "/mnt/$name.xml" ] || { echo "report $name $(wc -c < "/mnt/$name.xml")"; cat "/mnt/$name.xml"; echo; }
	} > /dev/ttyS1
}

export ONDOL_TEST_AS=root
run root "in a service that was given no group of its own" "$ROOT_TESTS" env
run unit "root, in a unit whose group was given to it" "$GROUP_TESTS" $unit
run container "root, in a group namespace whose top is that group" "$GROUP_TESTS" \
	$unit unshare --cgroup --mount --propagation private sh -c 'umount --lazy /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"' sh

export ONDOL_TEST_AS=user
uid=$(id -u ondol)
for try in $(seq 120); do [ -S "/run/user/$uid/bus" ] && break; sleep 1; done
run user "an ordinary user, in a unit of the own manager whose group was given to it" "$USER_TESTS" \
	runuser -u ondol -- env XDG_RUNTIME_DIR="/run/user/$uid" DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus" $unit --user
sync
