# What the device is told of itself: in the environment of scripts, and in a file of its boot partition.

# export_data: each value under its own name. Names were checked by the station: capitals, digits and underscores.
export_data() {
    for data_name in $DATA_NAMES; do
        eval "export $data_name=\"\$DATA_$data_name\""
    done
}

write_data_file() {
    [ -n "$DATA_FILE" ] || return 0
    data_partition=$PART1
    if [ ! -b "$STORAGE" ] && [ ! -e "$data_partition" ]; then
        warn "$STORAGE is a plain file without partitions: no $DATA_FILE"
        return 0
    fi
    mkdir -p "$WORK/boot"
    mount "$data_partition" "$WORK/boot" 2>"$WORK/mount.err" ||
        fail postinstall data.mount "$data_partition: $(last_words "$WORK/mount.err")"
    data_rc=0
    { printf '%s' "$DATA" >"$WORK/boot/$DATA_FILE"; } 2>"$WORK/mount.err" || data_rc=1
    sync
    umount "$WORK/boot" 2>>"$WORK/mount.err" || data_rc=1
    [ "$data_rc" = 0 ] || fail postinstall data.write "$DATA_FILE: $(last_words "$WORK/mount.err")"
    # Read back from the partition, not from what was just written to.
    mount -o ro "$data_partition" "$WORK/boot" 2>"$WORK/mount.err" ||
        fail postinstall data.mount "$data_partition: $(last_words "$WORK/mount.err")"
    data_back=$(cat "$WORK/boot/$DATA_FILE" 2>/dev/null) || data_rc=1
    umount "$WORK/boot" 2>/dev/null
    if [ "$data_rc" != 0 ] || [ "$data_back" != "$(printf '%s' "$DATA")" ]; then
        fail postinstall data.mismatch "$DATA_FILE does not hold what was written into it"
    fi
    say "Wrote $DATA_FILE on $data_partition"
}
