# The image goes onto the medium: every byte of it, zeros too, and its first MiB last.

# The image in pieces that every dd can count: the first MiB in sectors, whole MiBs, and the sectors that are left.
MIB=1048576
HEAD_SIZE=$((RAW_SIZE < MIB ? RAW_SIZE : MIB))
BODY_BLOCKS=$(((RAW_SIZE - HEAD_SIZE) / MIB))
BODY_SECTORS=$(((RAW_SIZE - HEAD_SIZE) % MIB / 512))

write() {
    report step=write state=started
    TOUCHED=yes
    begin_progress write 7 1
    discard
    # Whatever booted from here before must not boot again while the image is half there.
    wipe_head || fail write write.medium "$(last_words "$WORK/wipe.err")"
    call "$IMAGE_URL" -I || fail write write.download "$(last_words "$WORK/call.err") HTTP $call_status"
    say "Writing $RAW_SIZE bytes to $STORAGE"
    if [ "$COMPRESSION" = raw ]; then
        download | put
    else
        download | unpack | put
    fi
    judge
    dd if="$WORK/first" of="$STORAGE" bs=1M conv=notrunc,fsync 2>"$WORK/dd.err" ||
        fail write write.medium "$(last_words "$WORK/dd.err")"
    sync
    end_progress
    completed step=write "bytes=$RAW_SIZE"
}

# Faster writing on some media. Never trusted to leave zeros behind (eMMC may keep the old data).
discard() {
    if [ ! -b "$STORAGE" ]; then
        warn "$STORAGE is a plain file: no block device, no discard"
    elif ! blkdiscard "$STORAGE" 2>"$WORK/discard.err"; then
        warn "blkdiscard: $(last_words "$WORK/discard.err")"
    fi
}

# Fifteen minutes without a byte: the medium may stall for long, but not for ever. A connection that breaks off, as when
# the station is restarted, is taken up where it ended: what has gone down the pipe cannot be taken back. Nothing else
# may be printed here, for it would go there too.
download() {
    download_from=0
    download_tries=0
    while :; do
        curl -g -sS -f --connect-timeout 10 --speed-limit 1 --speed-time 900 -C "$download_from" \
            -w '%{stderr}\ntook %{size_download} %{http_code}\n' -H "Authorization: Bearer $TOKEN" "$IMAGE_URL" \
            2>"$WORK/curl.log"
        download_rc=$?
        grep -v -e '^took ' -e '^$' "$WORK/curl.log" >"$WORK/curl.err"
        goes_on || break
        sleep $((download_tries < 5 ? download_tries : 5))
    done
    echo "$download_rc" >"$WORK/curl.rc"
}

# Can the rest be asked for? For about ten minutes in which nothing comes. curl: 7 and 28 no connection, 18, 52, 55 and 56
# one that broke off, 22 a no of the station, of which 5xx is none for good.
goes_on() {
    goes_on_took=$(sed -n 's/^took //p' "$WORK/curl.log")
    case $download_rc-${goes_on_took#* } in
        7-* | 18-* | 28-* | 52-* | 55-* | 56-* | 22-5*) ;;
        *) return 1 ;;
    esac
    goes_on_took=${goes_on_took%% *}
    if [ "${goes_on_took:-0}" != 0 ]; then
        download_from=$((download_from + goes_on_took))
        download_tries=0
        printf '%s\n' "the download broke off after $download_from bytes and was taken up" >>"$WORK/warnings"
    fi
    download_tries=$((download_tries + 1))
    [ "$download_tries" -lt 120 ]
}

unpack() {
    "$(decoder)" -dc 2>"$WORK/unpack.err"
    echo $? >"$WORK/unpack.rc"
}

# Takes exactly RAW_SIZE bytes and counts those that come after; reading to the end lets xz check all it has.
put() {
    put_bytes=0
    take "$WORK/first" 512 $((HEAD_SIZE / 512)) 0 &&
        take "$STORAGE" "$MIB" "$BODY_BLOCKS" 1 &&
        take "$STORAGE" 512 "$BODY_SECTORS" $(((1 + BODY_BLOCKS) * 2048))
    put_rc=$?
    put_surplus=0
    [ "$put_rc" -ne 0 ] || put_surplus=$(wc -c)
    echo "$put_rc" >"$WORK/put.rc"
    echo $((put_bytes + put_surplus)) >"$WORK/put.bytes"
}

# take TARGET BLOCK COUNT SEEK: the next blocks of the stream. 1: dd failed, 2: the stream ended.
take() {
    [ "$3" -gt 0 ] || return 0
    put_into "$@" || return 1
    take_blocks=$(full_blocks "$WORK/dd.err")
    put_bytes=$((put_bytes + take_blocks * $2))
    [ "$take_blocks" = "$3" ] || return 2
}

put_into() (
    leave_pid
    exec dd of="$1" bs="$2" count="$3" seek="$4" iflag=fullblock conv=notrunc,fsync 2>"$WORK/dd.err"
)

# full_blocks FILE: what dd says at its end, "12+0 records in": the only count that every dd prints.
full_blocks() {
    full_blocks_count=$(sed -n 's/^\([0-9][0-9]*\)+.*in$/\1/p' "$1")
    echo "${full_blocks_count:-0}"
}

# Whose fault it was. A stage whose reader is gone fails too (curl with 23, others by signal 13): the reader is to blame.
judge() {
    judge_curl=$(cat "$WORK/curl.rc")
    judge_unpack=$(cat "$WORK/unpack.rc" 2>/dev/null || echo 0)
    judge_put=$(cat "$WORK/put.rc")
    [ "$judge_put" != 1 ] || fail write write.medium "$(last_words "$WORK/dd.err")"
    case $judge_curl in
        0 | 23 | 141) ;;
        *) fail write write.download "$(last_words "$WORK/curl.err")" ;;
    esac
    [ "$judge_unpack" = 0 ] ||
        fail write write.decode "$(decoder) ended with $judge_unpack: $(last_words "$WORK/unpack.err")"
    [ "$judge_curl" = 0 ] || fail write write.download "$(last_words "$WORK/curl.err")"
    judge_bytes=$(cat "$WORK/put.bytes")
    [ "$judge_put$judge_bytes" = "0$RAW_SIZE" ] ||
        fail write write.size "the image gave $judge_bytes bytes instead of $RAW_SIZE"
}
