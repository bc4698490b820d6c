# What must be there before anything is touched.

check() {
    for check_tool in awk curl dd grep head sed sha256sum sync tail tr wc; do
        command -v "$check_tool" >/dev/null || fail write tools.missing "this system has no $check_tool"
    done
    case $COMPRESSION in
        raw) ;;
        xz | gz | bz2) command -v "$(decoder)" >/dev/null || fail write tools.missing "this system has no $(decoder)" ;;
        *) fail write tools.missing "this system cannot decode $COMPRESSION" ;;
    esac
    check_medium
    [ -b "$STORAGE" ] || return 0
    [ -r "$DISK_STAT" ] || warn "no $DISK_STAT: no progress from the disk itself"
    led none 0 || warn "no LED led0 or led1"
}

# The program that decodes the image: those that the stock initramfs has. (It has bunzip2, but no bzip2.)
decoder() {
    case $COMPRESSION in
        gz) echo gunzip ;;
        bz2) echo bunzip2 ;;
        *) echo xz ;;
    esac
}

# A medium that is not there must not become a file in memory, and a file must not pass for a medium.
check_medium() {
    [ -e "$STORAGE" ] || fail write storage.missing "there is no $STORAGE on this module"
    if [ -b "$STORAGE" ]; then
        check_unused
    elif [ ! -f "$STORAGE" ] || [ "$REGULAR_FILE" != yes ]; then
        fail write storage.not_a_disk "$STORAGE is not a block device"
    fi
    check_capacity=$(capacity) || fail write storage.size_unknown "the size of $STORAGE cannot be read"
    # By arithmetic, because the test of a small busybox may be too narrow for sizes above 2 GiB.
    [ $((check_capacity < RAW_SIZE)) -eq 0 ] ||
        fail write storage.too_small "$STORAGE has $check_capacity bytes; the image needs $RAW_SIZE"
}

# The initramfs lives in memory: a medium that is mounted belongs to another system.
check_unused() {
    while read -r check_source check_target _; do
        case $check_source in
            "$STORAGE" | "$STORAGE"[0-9]* | "$STORAGE"p[0-9]*)
                fail write storage.in_use "$check_source is mounted on $check_target"
                ;;
        esac
    done </proc/mounts
}

capacity() {
    if [ ! -b "$STORAGE" ]; then
        stat -c %s "$STORAGE" 2>/dev/null || wc -c <"$STORAGE"
    elif ! blockdev --getsize64 "$STORAGE" 2>/dev/null; then
        capacity_sectors=$(cat "/sys/block/${STORAGE##*/}/size") && echo $((capacity_sectors * 512))
    fi
}
