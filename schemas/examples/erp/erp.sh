#!/bin/sh
# An ERP's side in plain shell: mosquitto_sub, mosquitto_rr, curl and jq.
#
#   erp.sh listen INBOX            takes every event exactly once into the file INBOX, one a line
#   erp.sh ask NAME PARAMS [ID]    sends a command and waits for the reply: erp.sh ask project.list '{}'
#
# HOST, PORT, ROOT (with a slash at its end), STATION, REST, CLIENT and QUIET may be set in the environment.
#
# mosquitto_sub acknowledges before this script has written, so the broker alone would lose what was on the way in a crash.
# The count of the events makes up for it: the last line of INBOX is our place, and what is missing after it comes from REST.
set -eu
HOST=${HOST:-127.0.0.1} PORT=${PORT:-1883} ROOT=${ROOT:-} STATION=${STATION:-st-01}
REST=${REST:-http://127.0.0.1:8080} CLIENT=${CLIENT:-erp-shell} QUIET=${QUIET:-60}
base=${ROOT}bootline/v1

say() { echo "$*" >&2; }

# Reads events line by line and takes each once.
take() {
    while IFS= read -r event; do
        # shellcheck disable=SC2046 # two words are wanted
        set -- $(printf '%s' "$event" | jq -r 'select(.specversion == "1.0") | "\(.epoch) \(.sequence | tonumber)"')
        [ $# -eq 2 ] || continue
        if [ "$1" != "$epoch" ]; then
            say "the station counts in epoch $1 now: reconcile with $REST/api/v1/sessions"
            epoch=$1 place=$(first_of "$1" "$2")
        fi
        [ "$2" -gt "$place" ] || continue
        [ "$2" -eq $((place + 1)) ] || fill "$2"
        write "$event" "$2"
    done
}

write() {
    printf '%s\n' "$1" >>"$inbox"
    sync -d "$inbox"
    place=$2
    echo "took $place"
}

page() { curl -sSf --retry 8 --retry-connrefused "$REST/api/v1/events?after=$1&limit=500"; }

# What lies between our place and event $1.
fill() {
    say "hole after $place, before $1: read from $REST"
    while [ $((place + 1)) -lt "$1" ]; do
        page "$place" | jq -c --arg epoch "$epoch" --argjson before "$1" \
            '.events[] | select(.epoch == $epoch and (.sequence | tonumber) < $before)' >"$inbox.page"
        [ -s "$inbox.page" ] || { say "what follows $place is not in the journal any more: reconcile"; return; }
        while IFS= read -r missing; do
            write "$missing" "$(printf '%s' "$missing" | jq -r '.sequence | tonumber')"
        done <"$inbox.page"
    done
    rm -f "$inbox.page"
}

# The place before the first event of epoch $1 that the station still has, seen from event $2.
first_of() {
    after=0
    while :; do
        answer=$(page "$after")
        found=$(printf '%s' "$answer" | jq --arg epoch "$1" '[.events[] | select(.epoch == $epoch)][0].sequence // "0" | tonumber')
        [ "$found" -eq 0 ] || { echo $((found - 1)); return; }
        after=$(printf '%s' "$answer" | jq .next_after)
        [ "$after" -lt "$2" ] || { echo $(($2 - 1)); return; }
    done
}

listen() {
    inbox=$1
    touch "$inbox"
    # A crash in the middle of a line: the event comes again.
    if [ -n "$(tail -c 1 "$inbox")" ]; then
        sed -i '$ d' "$inbox"
    fi
    epoch=$(tail -n 1 "$inbox" | jq -r '.epoch // ""') place=$(tail -n 1 "$inbox" | jq -r '.sequence | tonumber')
    epoch=${epoch:-none} place=${place:-0}
    hear | take
}

# What comes from the broker; before it, and every $QUIET seconds, what the station has and we have not: a hole at the end
# has no event behind it that would show it. The session is made before, so that nothing falls between the two.
hear() {
    set -- -h "$HOST" -p "$PORT" -V 5 -i "$CLIENT" -c -x 604800 -q 1 -t "$base/$STATION/evt/#"
    while :; do
        mosquitto_sub "$@" -E >/dev/null 2>&1 || sleep 1
        read_on || sleep 1
        mosquitto_sub "$@" -W "$QUIET" -F %p 2>/dev/null || [ $? -eq 27 ] || sleep 1
    done
}

# All that the station has after our place.
read_on() {
    after=$(tail -n 1 "$inbox" | jq -r '.sequence | tonumber') after=${after:-0}
    while answer=$(page "$after") && [ "$(printf '%s' "$answer" | jq '.events | length')" -gt 0 ]; do
        printf '%s' "$answer" | jq -c '.events[]'
        after=$(printf '%s' "$answer" | jq .next_after)
    done
    [ -n "$answer" ]
}

ask() {
    name=$1 params=$2 id=${3:-$CLIENT-$(date +%s%N)}
    request=$(jq -cn --arg id "$id" --arg name "$name" --arg client "$CLIENT" --argjson params "$params" \
        '{v: 1, command_id: $id, name: $name, actor: {type: "erp", id: $client}, params: $params}')
    topic=$base/$STATION/cmd/$(printf '%s' "$name" | tr . /)
    # The same id each time: a request that was carried out and whose reply was lost is answered, not repeated.
    for _ in 1 2 3; do
        reply=$(mosquitto_rr -h "$HOST" -p "$PORT" -V 5 -q 1 -W 10 -t "$topic" -e "$base/_reply/$CLIENT/$id" -m "$request") ||
            continue
        printf '%s\n' "$reply"
        case $(printf '%s' "$reply" | jq -r 'if .error then .error.retryable else "answered" end') in
        answered) return 0 ;;
        false) return 1 ;;
        esac
        sleep 2
    done
    say "no answer to $name"
    return 1
}

case ${1:-} in
listen) [ $# -eq 2 ] && listen "$2" ;;
ask) [ $# -ge 3 ] && ask "$2" "$3" ${4:+"$4"} ;;
*) say "usage: erp.sh listen INBOX | erp.sh ask NAME PARAMS [ID]" && exit 64 ;;
esac
