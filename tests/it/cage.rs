//! The cage of simulated devices, looked at from inside by a script that tries to get out and to do harm.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Each line that tells of a success is a hole.
const VILLAIN: &str = r#"
hole() { echo "HOLE: $*"; }
try() { ( "$@" ) >/dev/null 2>&1 && hole "$*"; }
into() { ( echo x >"$1" ) 2>/dev/null && hole "wrote $1"; }

[ "$(id -u)" = 0 ] || hole "the script does not see itself as root"
grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status || hole "capabilities"
grep -q '^CapBnd:[[:space:]]*0*$' /proc/self/status || hole "capabilities to be had"
grep -q '^NoNewPrivs:[[:space:]]*1$' /proc/self/status || hole "new privileges"
[ "$(wc -l </proc/self/uid_map)" = 1 ] || hole "more than one user id"
[ "$(awk '{ print $3 }' /proc/self/uid_map)" = 1 ] || hole "many user ids"

for node in /dev/*; do
    [ -b "$node" ] && hole "block device $node"
done
[ -f /dev/mmcblk0 ] || hole "the medium is no plain file"
try mknod /tmp/disk b 8 0
try mknod /tmp/mem c 1 1
for path in /usr /bin /sbin /lib /etc/alternatives; do
    into "$path/hole"
done
for path in /proc/sysrq-trigger /proc/sys/vm/drop_caches /proc/sys/kernel/core_pattern /proc/self/oom_score_adj; do
    into "$path"
done
try mount -t tmpfs none /mnt
try mount -o remount,rw /usr
try mount -o remount,rw /proc
try umount /usr
try umount /dev/mmcblk0
try rm /dev/mmcblk0
try chroot /proc/1/root true
try ls /proc/1/root/
try reboot -f
try poweroff -f
try halt -f
try hostname hole
try unshare -Ur true
try losetup /dev/loop0 /dev/mmcblk0
[ -e "$OUTSIDE" ] && hole "sees a file of the host"
[ "$(ls /proc | grep -c '^[0-9]')" -lt 12 ] || hole "sees processes of the host"

dd if=/dev/zero bs=1M count=1 2>/dev/null | tr '\0' 'w' | dd of=/dev/mmcblk0 bs=1M seek=1 conv=notrunc,fsync 2>/dev/null || hole "cannot write its medium"
[ "$(cat /sys/block/mmcblk0/size)" = 8192 ] || hole "another size of the medium"
[ "$(cat /sys/class/net/eth0/address)" = e6:5f:01:00:00:01 ] || hole "another address"
echo "looked around"
"#;

/// Lets a script run as the served script of a simulated device does; nothing where the system has no namespaces.
fn rehearse(folder: &Path, script: &str) -> Option<Value> {
    let (line, far) = UnixStream::pair().unwrap();
    let mut gate = Command::new(env!("CARGO_BIN_EXE_bootline"))
        .args(["cage", "device"])
        .stdin(Stdio::from(OwnedFd::from(far)))
        .spawn()
        .unwrap();
    let mut heard = BufReader::new(line.try_clone().unwrap()).lines();
    let mut next =
        || -> Value { heard.next().map_or(Value::Null, |line| serde_json::from_str(&line.unwrap()).unwrap()) };
    let say = |what: Value| writeln!(&line, "{what}").unwrap();
    let said = next();
    if said["said"] != "unshared" {
        gate.wait().unwrap();
        assert!(std::env::var_os("CI").is_none(), "no namespaces in CI: {said}");
        eprintln!("skipped: {said}");
        return None;
    }
    let (medium, root) = (folder.join("medium"), folder.join("root"));
    File::create_new(&medium).unwrap().set_len(4 << 20).unwrap();
    fs::create_dir(&root).unwrap();
    let mine = fs::metadata(&medium).unwrap();
    // As the product does it: the real root is nobody in there.
    let nobody = mine.uid() == 0 && fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295");
    let (uid, gid) = if nobody { (65534, 65534) } else { (mine.uid(), mine.gid()) };
    for path in [folder, &medium, &root] {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
    for (name, text) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
    {
        fs::write(format!("/proc/{}/{name}", gate.id()), text).unwrap();
    }
    say(json!({"scratch": null}));
    say(json!({
        "mac": "e65f01000001", "serial": "10000000b5000001", "model": "cm4", "medium": medium,
        "medium_bytes": 4 << 20, "root": root, "dhcp_again_ms": 4000, "rehearsal": script,
    }));
    assert_eq!(next()["said"], "caged");
    let ended = next();
    gate.wait().unwrap();
    Some(ended)
}

#[test]
fn a_script_that_wants_out_finds_no_hole_and_writes_only_its_medium() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("OUTSIDE='{}'\n{VILLAIN}", env!("CARGO_BIN_EXE_bootline"));
    let Some(ended) = rehearse(folder.path(), &script) else {
        return;
    };
    let output = ended["output"].as_str().unwrap_or_default();
    assert_eq!((ended["said"].as_str(), ended["exit"].as_i64()), (Some("ended"), Some(0)), "{ended}");
    assert_eq!(output, "looked around", "{output}");
    let medium = fs::read(folder.path().join("medium")).unwrap();
    assert_eq!(medium.len(), 4 << 20);
    assert!(medium[1 << 20..2 << 20].iter().all(|byte| *byte == b'w'));
    assert!(medium[..1 << 20].iter().chain(&medium[2 << 20..]).all(|byte| *byte == 0));
    assert_eq!(fs::read_dir(folder.path().join("root")).unwrap().count(), 0, "the root was only in memory");
}

#[test]
fn a_script_that_halts_or_kills_everything_ends_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ended) = rehearse(folder.path(), "sleep 600 & kill -9 -1; exit 3") else {
        return;
    };
    assert_eq!(ended["said"], "ended", "{ended}");
}

#[test]
fn a_device_outside_of_a_cage_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (line, far) = UnixStream::pair().unwrap();
    let mut inside = Command::new(env!("CARGO_BIN_EXE_bootline"))
        .args(["cage", "--inside", "device"])
        .stdin(Stdio::from(OwnedFd::from(far)))
        .spawn()
        .unwrap();
    let brief = json!({
        "mac": "e65f01000001", "serial": "10000000b5000001", "model": "cm4", "medium": folder.path().join("none"),
        "medium_bytes": 4 << 20, "root": folder.path(), "dhcp_again_ms": 4000, "rehearsal": "touch /hole",
    });
    writeln!(&line, "{brief}").unwrap();
    let mut said = String::new();
    BufReader::new(&line).read_line(&mut said).unwrap();
    assert!(said.contains("not process 1 of its own namespaces"), "{said}");
    assert_eq!(inside.wait().unwrap().code(), Some(77));
}
