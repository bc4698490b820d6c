# Which one is it? What the station answers to a word of progress may ask the module to blink. Never a reason to fail.

# heed: blinks as long as the station says so, and only then; a station that is away says nothing.
heed() {
    case $(cat "$WORK/heard" 2>/dev/null) in
        *'"identify":true'*) identify_begin ;;
        *) identify_end ;;
    esac
    rm -f "$WORK/heard"
}

# The LEDs blink ten times a second, which the end of a session never does. What they showed before is put down, for
# the shell that ends it is another one.
identify_begin() {
    [ ! -e "$WORK/identify" ] || return 0
    : >"$WORK/identify"
    for identify_led in /sys/class/leds/led0 /sys/class/leds/led1 /sys/class/leds/ACT /sys/class/leds/PWR; do
        [ -w "$identify_led/trigger" ] || continue
        identify_was=$(sed -n 's/.*\[\(.*\)\].*/\1/p' "$identify_led/trigger" 2>/dev/null)
        identify_level=$(cat "$identify_led/brightness" 2>/dev/null)
        echo "$identify_led ${identify_was:-none} ${identify_level:-0}" >>"$WORK/identify"
        { echo timer >"$identify_led/trigger"; } 2>/dev/null
        # The kernel makes these two when the trigger is set.
        { echo 50 >"$identify_led/delay_on"; } 2>/dev/null
        { echo 50 >"$identify_led/delay_off"; } 2>/dev/null
    done
}

identify_end() {
    [ -e "$WORK/identify" ] || return 0
    while read -r identify_led identify_was identify_level; do
        { echo "$identify_was" >"$identify_led/trigger"; } 2>/dev/null
        { echo "$identify_level" >"$identify_led/brightness"; } 2>/dev/null
    done <"$WORK/identify"
    rm -f "$WORK/identify"
}
