# Runs in the guest, as root, on the serial console: the tests as root, then as an ordinary user with a delegated control group.
# What the host must know goes to the second serial port, a line each: a run's name and pytest's status, then its JUnit report.
cd /opt/project || exit 1
export PYTHONDONTWRITEBYTECODE=1 CI=1 ONDOL_TEST_CGROUPS=1
. /opt/project/settings

stty -F /dev/ttyS1 raw
mount -t tmpfs -o mode=1777 none /mnt

report() { # NAME STATUS
	{
		echo "run $1 $2"
		[ ! -e /mnt/$1.xml ] || { echo "report $1 $(wc -c < /mnt/$1.xml)"; cat /mnt/$1.xml; echo; }
	} > /dev/ttyS1
}

uname -sr
systemctl --version | head -1
grep cgroup /proc/self/mountinfo
cat /proc/self/cgroup

case " $RUNS " in *" root "*)
	echo "== as root"
	ONDOL_TEST_AS=root python3 -m pytest -p no:cacheprovider --junitxml=/mnt/root.xml $ARGUMENTS $ROOT_TESTS
	report root $?
esac

case " $RUNS " in *" user "*)
	echo "== as an ordinary user, in a delegated unit of the user's manager"
	uid=$(id -u ondol)
	for try in $(seq 120); do [ -S /run/user/$uid/bus ] && break; sleep 1; done
	runuser -u ondol -- env XDG_RUNTIME_DIR=/run/user/$uid DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$uid/bus \
		systemd-run --user --quiet --wait --pipe --collect -p Delegate=yes --working-directory=/opt/project \
		-E ONDOL_TEST_AS=user -E CI -E PYTHONDONTWRITEBYTECODE -E ONDOL_TEST_PATIENCE -E ONDOL_TEST_CGROUPS \
		python3 -m pytest -p no:cacheprovider --junitxml=/mnt/user.xml $ARGUMENTS $USER_TESTS
	report user $?
esac
sync
