# The LED at a GPIO of the carrier board, where the project names one. Never a reason to fail.

STATUS_LINE=
STATUS_BLINKER=

# status_begin: makes the GPIO an output and lets it blink until status_end.
status_begin() {
    [ -n "$STATUS_LED" ] || return 0
    status_number=$(($(status_base) + STATUS_LED))
    STATUS_LINE=/sys/class/gpio/gpio$status_number
    [ -d "$STATUS_LINE" ] || { echo "$status_number" >/sys/class/gpio/export; } 2>/dev/null
    if ! { echo out >"$STATUS_LINE/direction"; } 2>/dev/null; then
        warn "no GPIO $STATUS_LED for the status LED"
        STATUS_LINE=
        return 0
    fi
    status_blink >/dev/null 2>&1 </dev/null &
    STATUS_BLINKER=$!
}

# The first number of the chip that the module's GPIOs are on: 0 to Linux 6.5, 512 since.
status_base() {
    for status_chip in /sys/class/gpio/gpiochip*; do
        case $(cat "$status_chip/label" 2>/dev/null) in
            pinctrl-bcm2* | pinctrl-rp1)
                cat "$status_chip/base"
                return
                ;;
        esac
    done
    echo 0
}

status_blink() {
    while :; do
        echo 1 >"$STATUS_LINE/value"
        status_pause
        echo 0 >"$STATUS_LINE/value"
        status_pause
    done
}

# Short while the module is to show itself. Not every busybox knows parts of a second.
status_pause() {
    if [ -e "$WORK/identify" ]; then
        sleep 0.1 2>/dev/null || sleep 1
    else
        sleep 1
    fi
}

# status_end SUCCESS: 1 or 0; the LED shows STATUS_ON_SUCCESS for success and the opposite for failure.
status_end() {
    [ -n "$STATUS_LINE" ] || return 0
    if [ -n "$STATUS_BLINKER" ]; then
        kill "$STATUS_BLINKER" 2>/dev/null
        wait "$STATUS_BLINKER" 2>/dev/null
        STATUS_BLINKER=
    fi
    if [ "$1" = 1 ]; then status_level=$STATUS_ON_SUCCESS; else status_level=$((1 - STATUS_ON_SUCCESS)); fi
    { echo "$status_level" >"$STATUS_LINE/value"; } 2>/dev/null
    STATUS_LINE=
}
