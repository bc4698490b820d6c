# The scripts of the site, before the medium is touched and after it was read back. Each is fetched with the token of the
# session, runs in a shell of its own with what it is told in its environment, and what it prints goes to the station.

# What is kept of the output of one script.
OUTPUT_BYTES=1048576

preinstall() {
    [ -n "$PREINSTALL" ] || return 0
    scripts_step=preinstall
    report step=preinstall state=started
    begin_pulse preinstall
    run_scripts "$PREINSTALL"
    end_progress
    report_scripts preinstall
}

postinstall() {
    [ "$ENDS" = yes ] || return 0
    scripts_step=postinstall
    report step=postinstall state=started
    begin_pulse postinstall
    # The kernel knows the partitions that the medium had before.
    [ ! -b "$STORAGE" ] || partprobe "$STORAGE" 2>/dev/null || blockdev --rereadpt "$STORAGE" 2>/dev/null || :
    write_data_file
    run_scripts "$POSTINSTALL"
    await_background
    sync
    end_progress
    report_scripts postinstall
}

# run_scripts LIST: one a line, as ID fail|warn yes|no SECONDS.
run_scripts() {
    : >"$WORK/runs"
    while read -r script_id script_on_failure script_background script_timeout; do
        [ -n "$script_id" ] || continue
        call "$SCRIPTS_URL/$script_id" || fail "$scripts_step" script.download "$script_id: $(last_words "$WORK/call.err") HTTP $call_status"
        cp "$WORK/answer" "$WORK/script.$script_id"
        if [ "$script_background" = yes ]; then
            say "Running $script_id in the background"
            run_script "$script_id" "$script_timeout" </dev/null &
            echo "$script_id $script_on_failure $!" >>"$WORK/background"
        else
            say "Running $script_id"
            run_script "$script_id" "$script_timeout" </dev/null
            judge_script "$script_id" "$script_on_failure"
        fi
    done <<LIST
$1
LIST
}

# run_script ID SECONDS: leaves how it ended in run.ID and what it printed in output.ID.
run_script() {
    run_begin=$(uptime_seconds)
    rm -f "$WORK/late.$1"
    (
        export_data
        unset TOKEN
        exec sh "$WORK/script.$1"
    ) >"$WORK/output.$1" 2>&1 &
    run_pid=$!
    watch_over "$1" "$2" "$run_pid" >/dev/null 2>&1 &
    run_watch=$!
    wait "$run_pid"
    run_exit=$?
    end_tree "$run_watch"
    wait "$run_watch" 2>/dev/null
    run_late=no
    if [ -e "$WORK/late.$1" ]; then
        run_exit=124
        run_late=yes
    fi
    echo "$1 $run_exit $(($(uptime_seconds) - run_begin)) $run_late" >"$WORK/run.$1"
}

# watch_over ID SECONDS PID: ends a script that takes too long, and what it has started.
watch_over() {
    sleep "$2"
    : >"$WORK/late.$1"
    end_tree "$3"
}

# end_tree PID: children first; a shell that waits for one would else go on with its next line.
end_tree() {
    kill -STOP "$1" 2>/dev/null
    for end_stat in /proc/[0-9]*/stat; do
        end_parent=$(sed 's/^.*) . \([0-9]*\) .*$/\1/' "$end_stat" 2>/dev/null)
        if [ "$end_parent" = "$1" ]; then
            end_child=${end_stat#/proc/}
            (end_tree "${end_child%/stat}")
        fi
    done
    kill -KILL "$1" 2>/dev/null
}

uptime_seconds() {
    sed 's/\..*//' /proc/uptime
}

# judge_script ID fail|warn: sends the output, and says what an exit code means.
judge_script() {
    judge_line=$(cat "$WORK/run.$1" 2>/dev/null) || judge_line="$1 125 0 no"
    echo "$judge_line" >>"$WORK/runs"
    send_output "$1"
    judge_rest=${judge_line#"$1 "}
    judge_exit=${judge_rest%% *}
    case $judge_line in
        *" yes") judge_words="was ended because it took too long" ;;
        *) judge_words="ended with $judge_exit" ;;
    esac
    [ "$judge_exit" != 0 ] || return 0
    if [ "$2" = fail ]; then
        fail "$scripts_step" script.failed "script $1 $judge_words: $(last_words "$WORK/output.$1")"
    fi
    warn "script $1 $judge_words"
}

# A byte more than is kept tells the station that there was more.
send_output() {
    [ -s "$WORK/output.$1" ] || return 0
    head -c $((OUTPUT_BYTES + 1)) "$WORK/output.$1" >"$WORK/sent"
    call "$SCRIPTS_URL/$1/output" --data-binary "@$WORK/sent" -H 'Content-Type: text/plain' ||
        warn "the station did not take the output of $1"
}

await_background() {
    [ -e "$WORK/background" ] || return 0
    while read -r await_id await_on_failure await_pid; do
        wait "$await_pid" 2>/dev/null
        judge_script "$await_id" "$await_on_failure"
    done <"$WORK/background"
    rm -f "$WORK/background"
}

# report_scripts STEP: how each has ended.
report_scripts() {
    set -- "step=$1"
    while read -r report_run; do
        set -- "$@" "script=$report_run"
    done <"$WORK/runs"
    completed "$@"
}

# A session that fails does not leave its scripts behind.
end_background() {
    [ -e "$WORK/background" ] || return 0
    while read -r _ _ background_pid; do
        end_tree "$background_pid"
    done <"$WORK/background"
    rm -f "$WORK/background"
}
