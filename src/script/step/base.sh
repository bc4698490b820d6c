# What every step needs: words for the operator, reports for the station, and one way out.
#
# Written for the busybox 1.31 ash and curl 7.66 of the stock initramfs, for dash and for a current busybox. None of
# them shows the exit code of an early stage of a pipe in the same way, so each stage writes its own into a file.

say() {
    printf '%s\n' "$*"
}

# last_words FILE: the end of what a tool complained of, on one line.
last_words() {
    tail -c 400 "$1" 2>/dev/null | tr '\n' ' '
}

warn() {
    say "warning: $*"
    printf '%s\n' "$*" >>"$WORK/warnings"
}

# call URL ARGUMENTS..: one request, repeated while the station is away or busy. What it answers is left in
# $WORK/answer. 0: taken, 1: refused, 2: no answer in about ten minutes.
# curl's own --retry is not used: it gives up at a connection that was cut, which is how a restart of the station looks.
call() {
    call_url=$1
    shift
    call_tries=0
    while :; do
        rm -f "$WORK/answer" "$WORK/headers"
        call_status=$(curl -g -sS --connect-timeout 10 --max-time 60 -D "$WORK/headers" -o "$WORK/answer" \
            -w '%{http_code}' -H 'Expect:' -H "Authorization: Bearer $TOKEN" "$@" "$call_url" \
            2>"$WORK/call.err") || call_status=000
        case $call_status in
            2*) return 0 ;;
            000 | 408 | 429 | 5*) ;;
            *) return 1 ;;
        esac
        call_tries=$((call_tries + 1))
        [ "$call_tries" -lt 120 ] || return 2
        sleep "$(pause "$call_tries")"
    done
}

# pause TRIES: how many seconds to wait: what Retry-After says, or up to five.
pause() {
    pause_seconds=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9][0-9]\{0,1\}\)[^0-9]*$/\1/p' "$WORK/headers" 2>/dev/null)
    [ -n "$pause_seconds" ] || pause_seconds=$(($1 < 5 ? $1 : 5))
    echo "$pause_seconds"
}

# report FIELD..: tells the station; only its yes lets the session go on.
report() {
    for report_field in "$@"; do
        shift
        set -- "$@" --data-urlencode "$report_field"
    done
    call "$REPORT_URL" "$@"
    case $? in
        0) return 0 ;;
        1) give_up "the station refused the report: $(last_words "$WORK/answer")" ;;
        *) give_up "the station does not answer: $(last_words "$WORK/call.err")" ;;
    esac
}

# completed FIELD..: a step is done; with what it has warned of.
completed() {
    set -- "$@" state=completed
    if [ -e "$WORK/warnings" ]; then
        while IFS= read -r completed_warning; do
            set -- "$@" "warning=$completed_warning"
        done <"$WORK/warnings"
        rm -f "$WORK/warnings"
    fi
    report "$@"
}

# fail STEP CODE DETAIL: tells the station, and ends.
fail() {
    end_progress
    call "$REPORT_URL" --data-urlencode "step=$1" --data-urlencode state=failed --data-urlencode "code=$2" \
        --data-urlencode "detail=$3" --data-urlencode "temperature=$(temperature)" \
        --data-urlencode "link=$(link_speed)" || say "warning: the station did not take the report of this failure"
    give_up "$2: $3"
}

# As the system of the module measures it: 51.0'C
temperature() {
    vcgencmd measure_temp 2>/dev/null | sed -n 's/^temp=//p'
}

# Mbit/s of the first port that has a link: 100 where two pairs of the cable are broken.
link_speed() {
    for link_port in /sys/class/net/*/speed; do
        link_mbps=$(cat "$link_port" 2>/dev/null) || continue
        case $link_mbps in
            '' | *[!0-9]*) ;;
            *)
                echo "$link_mbps"
                return
                ;;
        esac
    done
}

# give_up REASON: shows the failure. What is not proven must not boot: without its first MiB the module netboots again.
give_up() {
    end_progress
    wipe_head || say "warning: the start of $STORAGE cannot be wiped: $(last_words "$WORK/wipe.err")"
    led timer 1 || :
    status_end 0
    say "Provisioning failed: $1"
    exit 1
}

# From the moment on where the medium is changed.
TOUCHED=no

wipe_head() {
    [ "$TOUCHED" = yes ] || return 0
    dd if=/dev/zero of="$STORAGE" bs=512 count=$((HEAD_SIZE / 512)) conv=notrunc,fsync 2>"$WORK/wipe.err"
}

PROGRESS=

# begin_progress STEP FIELD FD: tells the station now and then how far the step is; FIELD counts its sectors in
# /sys/block/*/stat, FD is the medium in the dd that works on it.
begin_progress() {
    rm -f "$WORK/pid"
    progress_base=$(sectors "$2") || progress_base=0
    progress "$1" "$2" "$3" >/dev/null 2>&1 </dev/null &
    PROGRESS=$!
}

end_progress() {
    [ -n "$PROGRESS" ] || return 0
    kill "$PROGRESS" 2>/dev/null
    wait "$PROGRESS" 2>/dev/null
    PROGRESS=
    identify_end
}

progress() {
    # At once for the first time: from then on the station takes silence for what it is.
    while :; do
        curl -g -s --connect-timeout 2 --max-time 3 -H "Authorization: Bearer $TOKEN" --data "step=$1" \
            --data "bytes=$(moved "$2" "$3")" -o "$WORK/heard" "$PROGRESS_URL"
        heed
        sleep "$PROGRESS_SECONDS" || return
    done
}

# moved FIELD FD: bytes since the step began. What the disk has done, if it says so; else where dd is in the file.
moved() {
    if moved_now=$(sectors "$1"); then
        echo $(((moved_now - progress_base) * 512))
    elif read -r moved_pid <"$WORK/pid"; then
        moved_now=$(sed -n 's/^pos:[[:space:]]*//p' "/proc/$moved_pid/fdinfo/$2")
        echo "${moved_now:-0}"
    else
        echo 0
    fi
}

# sectors FIELD: a counter of the disk (Documentation/block/stat.rst: 3 read, 7 written, in 512 bytes).
sectors() {
    [ -b "$STORAGE" ] && [ -r "$DISK_STAT" ] && awk "{ print \$$1 }" "$DISK_STAT"
}

# leave_pid: puts down the id of the subshell that calls it, which then becomes a dd. ($$ is the id of the script.)
leave_pid() {
    read -r own_pid _ </proc/self/stat && echo "$own_pid" >"$WORK/pid"
}
