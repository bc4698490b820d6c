# All of it in its order, called in the last line: a script that was cut off on its way does nothing at all.

provision() {
    set -u
    umask 077
    export LC_ALL=C SERIAL SERVER STORAGE PART1 PART2
    DISK_STAT=/sys/block/${STORAGE##*/}/stat
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/bootline.XXXXXX") || exit 1
    trap 'end_progress; end_background; status_end 0; rm -rf "$WORK"' EXIT
    trap 'exit 1' HUP INT TERM
    say "Provisioning $SERIAL: session $SESSION"
    status_begin
    check
    firmware
    preinstall
    write
    verify
    postinstall
    report state=finished "temperature=$(temperature)" "link=$(link_speed)"
    led none 1 || :
    status_end 1
    say "Provisioning completed successfully!"
}

provision
