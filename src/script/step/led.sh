# The two LEDs that a module may have (led0 is the activity LED, led1 the power LED). Never a reason to fail.

# led TRIGGER BRIGHTNESS: lets both show something; fails where there is none.
led() {
    led_found=1
    for led_path in /sys/class/leds/led0 /sys/class/leds/led1; do
        [ -w "$led_path/trigger" ] || continue
        led_found=0
        { echo "$1" >"$led_path/trigger"; } 2>/dev/null
        { echo "$2" >"$led_path/brightness"; } 2>/dev/null
    done
    return "$led_found"
}
