# The proof: what the medium gives back, and not what memory remembers of it.

verify() {
    report step=verify state=started
    begin_progress verify 3 0
    forget
    say "Reading back $RAW_SIZE bytes from $STORAGE"
    verify_sum=$({
        read_back
        echo $? >"$WORK/read.rc"
    } | sha256sum) || fail verify verify.hash "sha256sum failed"
    end_progress
    verify_sum=${verify_sum%% *}
    [ "$(cat "$WORK/read.rc")" = 0 ] || fail verify verify.read "$(last_words "$WORK/dd.err")"
    report step=verify state=completed "sha256=$verify_sum" "bytes=$(cat "$WORK/read.bytes")" "cache=$CACHE" \
        "temperature=$(temperature)" "link=$(link_speed)"
    # The station has compared it too; this is for the case that it has not.
    [ "$verify_sum" = "$RAW_SHA256" ] ||
        fail verify verify.mismatch "$STORAGE gives back $verify_sum instead of $RAW_SHA256"
}

# Sets CACHE to how the medium is read, and DIRECT to what dd needs for it. A plain file is not worth emptying the
# memory of the whole machine.
forget() {
    DIRECT=
    sync
    [ ! -b "$STORAGE" ] || blockdev --flushbufs "$STORAGE" 2>/dev/null
    if [ -b "$STORAGE" ] && { echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null; then
        CACHE=dropped
    elif dd if="$STORAGE" of=/dev/null bs="$MIB" count=1 iflag=direct 2>/dev/null; then
        CACHE=direct
        DIRECT=iflag=direct
    else
        CACHE=not_dropped
    fi
}

# Exactly the image's size. The last, broken MiB is read as a whole block and cut afterwards: direct reads must be
# aligned, and a head behind a pipe would make dd fail.
read_back() {
    read_blocks=$((RAW_SIZE / MIB))
    read_rest=$((RAW_SIZE % MIB))
    read_count=0
    if [ "$read_blocks" -gt 0 ]; then
        read_from 0 "$read_blocks" || return 1
        read_count=$(($(full_blocks "$WORK/dd.err") * MIB))
    fi
    if [ "$read_rest" -gt 0 ]; then
        read_from "$read_blocks" 1 >"$WORK/last" || return 1
        head -c "$read_rest" "$WORK/last" >"$WORK/rest"
        cat "$WORK/rest"
        read_count=$((read_count + $(wc -c <"$WORK/rest")))
    fi
    echo "$read_count" >"$WORK/read.bytes"
}

# read_from SKIP COUNT: whole MiBs of the medium.
read_from() (
    leave_pid
    set -- if="$STORAGE" bs="$MIB" skip="$1" count="$2"
    [ -z "$DIRECT" ] || set -- "$@" "$DIRECT"
    exec dd "$@" 2>"$WORK/dd.err"
)
