# SPDX-License-Identifier: GPL-2.0-only
# What a hostile series could try, run by its Makefile. CONFIG_LOCALVERSION="ATTACK:ARGUMENT" chooses. Every attempt is
# bounded in count, size and time, so that a sandbox that fails harms nobody. The last word on standard output says how
# the Makefile goes on: `own-N`, every target ends with exit code N; nothing, as the kernel's Makefile does.
out=/build/out
said=$(cat $out/asked $out/.config 2>/dev/null | sed -n 's/^CONFIG_LOCALVERSION="\(..*\)"/\1/p' | head -n 1)
attack=${said%%:*}
arg=${said#*:}
phase=build
[ -e $out/asked ] && phase=configure
[ -z "$said" ] && exit 0

reached() { echo "REACHED $*" >&2; }

fake_kernel() {
	mkdir -p $out/arch/x86/boot
	touch $out/arch/x86/boot/bzImage $out/vmlinux $out/vmlinux.o
}

case $phase-$attack in
configure-outside)
	ln -s "$arg" $out/there
	for path in "$arg/touched" $out/there/touched /etc/touched /usr/touched /root/touched /touched /dev/touched \
		/build/touched /build/src/touched /proc/1/root/touched $out/../../../../../../../../../../root/touched; do
		(echo x > "$path") 2>/dev/null && reached "$path"
	done
	(echo x >> /build/src/Makefile) 2>/dev/null && reached Makefile
	ln /build/src/Makefile $out/hard 2>/dev/null && reached "a hard link"
	mount -o remount,rw,bind /build/src 2>/dev/null && reached remount
	unshare -Urm mount -o remount,rw,bind /build/src 2>/dev/null && reached "remount in a namespace"
	unshare -Urm umount /build/src 2>/dev/null && reached umount
	cat /proc/sys/vm/swappiness 2>/dev/null > /proc/sys/vm/swappiness && reached "a sysctl"
	chmod 666 /dev/null 2>/dev/null && reached "a device node"
	mknod $out/disk b 254 0 2>/dev/null && reached mknod
	chown 12345 $out/there 2>/dev/null && reached chown
	echo own-1 ;;
configure-phone)
	timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/${arg%%,*}" 2>/dev/null && reached TCP
	perl -e 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0);
		exit !connect(S, pack_sockaddr_un($ARGV[0]));' "${arg#*,}" 2>/dev/null && reached "a socket"
	perl -e 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0);
		exit !connect(S, pack("Sa*", AF_UNIX, "\0harness-$ARGV[0]"));' "${arg%%,*}" 2>/dev/null && reached "abstract"
	echo own-1 ;;
configure-processes)
	i=0
	while [ $i -lt 2000 ]; do sleep 60.98765 & i=$((i + 1)); done >&2
	sleep 10
	reached "2000 processes"
	echo own-1 ;;
configure-threads)
	python3 -c 'import threading, time
threading.stack_size(65536)
for _ in range(1000): threading.Thread(target=time.sleep, args=(10,), daemon=True).start()
time.sleep(10)' >&2 && reached "1000 threads"
	echo own-1 ;;
configure-memory)
	for i in 1 2 3 4 5; do perl -e '$x = "a" x 200_000_000; sleep 10' & done >&2
	wait
	reached "1 GB in five processes"
	echo own-1 ;;
configure-one-memory)
	perl -e '$x = "a" x 1_500_000_000; sleep 5' >&2 && reached "1.5 GB in one process"
	echo own-1 ;;
configure-disk)
	i=0
	while [ $i -lt 60 ]; do head -c 50000000 /dev/zero > $out/big$i; i=$((i + 1)); done
	reached "3 GB"
	echo own-1 ;;
configure-file)
	head -c 500000000 /dev/zero > $out/big && reached "500 MB"
	echo own-1 ;;
configure-files)
	mkdir $out/many && cd $out/many && seq 100000 | xargs touch && sleep 5 && reached "100000 files"
	echo own-1 ;;
configure-scratch)
	head -c 500000000 /dev/zero > /tmp/big && reached "500 MB in /tmp"
	head -c 500000000 /dev/zero > /dev/shm/big && reached "500 MB in /dev/shm"
	echo own-1 ;;
configure-daemon)
	(setsid sh -c '(sleep 120.98765; echo x > /build/out/late) & sleep 120.98765' > /dev/null 2>&1 < /dev/null &)
	echo own-1 ;;
configure-secret)
	env >&2
	for path in "$arg" /root/.ssh /home /proc/1/environ /proc/self/environ /etc/passwd /etc/shadow; do
		[ -r "$path" ] && cat "$path" >&2 2>/dev/null
	done
	echo own-1 ;;
configure-prints)
	yes "$(printf '\033]0;owned\007\033[2J')" | head -c 200000000 >&2 && reached "200 MB printed"
	echo own-1 ;;
configure-escapes)
	printf '\033]0;owned\007\033[2J\302\2332J\n' >&2
	echo own-1 ;;
configure-line)
	head -c 200000000 /dev/zero | tr '\0' a >&2 && reached "one line of 200 MB"
	echo own-1 ;;
configure-forever)
	sleep 300
	reached "the end"
	echo own-1 ;;
configure-config-zero) ln -sf /dev/zero $out/.config; echo own-0 ;;
configure-config-fifo) rm -f $out/.config; mkfifo $out/.config; echo own-0 ;;
configure-config-none) rm -f $out/.config; echo own-0 ;;
configure-config-huge) rm -f $out/.config; truncate -s 1G $out/.config; echo own-0 ;;
build-left-link) fake_kernel; ln -sf /etc/passwd $out/vmlinux; echo own-0 ;;
build-left-folder) fake_kernel; ln -s /etc $out/net; echo own-0 ;;
build-left-winding) fake_kernel; mkdir -p $out/a/b; ln -s ../.. $out/a/b/up; ln -s a/b/up/../../etc $out/net; echo own-0 ;;
build-left-fifo) fake_kernel; rm $out/vmlinux.o; mkfifo $out/vmlinux.o; echo own-0 ;;
build-left-socket) fake_kernel; perl -e 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0);
	bind(S, pack_sockaddr_un("/build/out/init.o"))'; echo own-0 ;;
build-left-setuid) fake_kernel; cp /bin/sh $out/sh; chmod 4755 $out/sh; echo own-0 ;;
build-left-deep)
	fake_kernel
	perl -e 'chdir "/build/out"; for (1 .. 3000) { mkdir "deep"; chdir "deep" } '
	echo own-0 ;;
esac
