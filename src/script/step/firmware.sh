# The EEPROM comes first: the medium is not touched before it holds its firmware and was read back.

firmware() {
    [ -n "$FIRMWARE_URL" ] || return 0
    report step=firmware state=started
    for firmware_tool in date flashrom sort; do
        command -v "$firmware_tool" >/dev/null || fail firmware firmware.tools "this system has no $firmware_tool"
    done
    begin_pulse firmware
    fetch_firmware
    flash -r "$WORK/eeprom.before" || fail firmware firmware.read "$(last_words "$WORK/flashrom.log")"
    firmware_size=$(wc -c <"$WORK/eeprom.before")
    [ "$((firmware_size))" = "$FIRMWARE_SIZE" ] || fail firmware firmware.chip \
        "the EEPROM of this module has $((firmware_size)) bytes, the firmware is for one of $FIRMWARE_SIZE"
    firmware_built=$(built_of "$WORK/eeprom.before")
    firmware_before=$(version_of "$WORK/eeprom.before" "$firmware_built")
    [ -n "$firmware_before" ] || firmware_before=$(running_version)
    [ -n "$firmware_built" ] || firmware_built=$(running_built)
    set -- step=firmware state=completed "bytes=$FIRMWARE_SIZE" "sha256=$FIRMWARE_SHA256" \
        "version_before=$firmware_before" "built_before=$firmware_built"
    if [ "$(sum_of "$WORK/eeprom.before")" = "$FIRMWARE_SHA256" ]; then
        say "The EEPROM holds its firmware already: $firmware_before"
        set -- "$@" "version_after=$firmware_before" skipped=yes
    else
        refuse_downgrade
        write_firmware
        set -- "$@" "version_after=$(version_of "$WORK/eeprom.after" "$(built_of "$WORK/eeprom.after")")"
    fi
    end_progress
    report "$@"
}

# flash -r|-w FILE
flash() {
    flashrom -p "linux_spi:dev=$FIRMWARE_SPI,spispeed=16000" "$1" "$2" >"$WORK/flashrom.log" 2>&1 </dev/null
}

sum_of() {
    sum_of_line=$(sha256sum <"$1") && echo "${sum_of_line%% *}"
}

# A few tries: the image is small, and nothing was done yet that could not be done again.
fetch_firmware() {
    fetch_tries=0
    while :; do
        fetch_status=$(curl -g -sS --connect-timeout 10 --max-time 120 -D "$WORK/headers" -o "$WORK/eeprom.new" \
            -w '%{http_code}' -H "Authorization: Bearer $TOKEN" "$FIRMWARE_URL" 2>"$WORK/curl.err") &&
            [ "$fetch_status" = 200 ] && break
        fetch_tries=$((fetch_tries + 1))
        case $fetch_tries$fetch_status in
            [1-3]000 | [1-3]200 | [1-3]5*) sleep "$(pause "$fetch_tries")" ;;
            *) fail firmware firmware.download "$(last_words "$WORK/curl.err") HTTP $fetch_status" ;;
        esac
    done
    fetch_sum=$(sum_of "$WORK/eeprom.new")
    [ "$fetch_sum" = "$FIRMWARE_SHA256" ] ||
        fail firmware firmware.download "the firmware came as $fetch_sum instead of $FIRMWARE_SHA256"
}

refuse_downgrade() {
    [ "$FIRMWARE_DOWNGRADE" = no ] && [ -n "$FIRMWARE_BUILT" ] && [ -n "$firmware_built" ] || return 0
    [ $((firmware_built > FIRMWARE_BUILT)) -eq 0 ] || fail firmware firmware.downgrade \
        "the EEPROM holds $firmware_before, which is newer than $FIRMWARE_VERSION"
}

write_firmware() {
    say "Writing firmware $FIRMWARE_VERSION over $firmware_before"
    if ! flash -w "$WORK/eeprom.new"; then
        write_reason=$(last_words "$WORK/flashrom.log")
        fail firmware firmware.write "$write_reason; $(restore)"
    fi
    if ! flash -r "$WORK/eeprom.after"; then
        write_reason=$(last_words "$WORK/flashrom.log")
        fail firmware firmware.read "$write_reason; $(restore)"
    fi
    write_sum=$(sum_of "$WORK/eeprom.after")
    [ "$write_sum" = "$FIRMWARE_SHA256" ] || fail firmware firmware.mismatch \
        "the EEPROM gives back $write_sum instead of $FIRMWARE_SHA256; $(restore)"
}

# Half a firmware does not start: such a module only listens to rpiboot. So it is given back what it had.
restore() {
    if flash -w "$WORK/eeprom.before" && flash -r "$WORK/eeprom.after" &&
        [ "$(sum_of "$WORK/eeprom.after")" = "$(sum_of "$WORK/eeprom.before")" ]; then
        echo "the EEPROM holds again what it held before"
    else
        echo "the EEPROM may be damaged: a module that does not start is to be recovered by rpiboot"
    fi
}

# built_of IMAGE: when it was built, in seconds since 1970; of several builds the newest.
built_of() {
    tr -c ' -~' '\n' <"$1" | sed -n 's/.*BUILD_TIMESTAMP=\([1-9][0-9]\{0,9\}\).*/\1/p' | sort -n | tail -n 1
}

# version_of IMAGE BUILT: day and commit, as the station names it too.
version_of() {
    version_day=
    [ -z "$2" ] || version_day=$(date -u -d "@$2" +%Y-%m-%d 2>/dev/null)
    version_commit=$(tr -c ' -~' '\n' <"$1" | sed -n 's/.*VERSION:\([0-9a-f]\{8\}\).*/\1/p' | head -n 1)
    version_text="$version_day $version_commit"
    version_text=${version_text# }
    echo "${version_text% }"
}

# What the bootloader says that has started this system, where the EEPROM itself does not tell.
running_version() {
    vcgencmd bootloader_version 2>/dev/null | tr '\n' ' '
}

running_built() {
    vcgencmd bootloader_version 2>/dev/null | sed -n 's/^timestamp \([1-9][0-9]\{0,9\}\)$/\1/p' | head -n 1
}

# begin_pulse STEP: tells the station now and then that the module is alive.
begin_pulse() {
    pulse "$1" >/dev/null 2>&1 </dev/null &
    PROGRESS=$!
}

pulse() {
    while sleep "$PROGRESS_SECONDS"; do
        curl -g -s --connect-timeout 2 --max-time 3 -H "Authorization: Bearer $TOKEN" --data "step=$1" --data bytes=0 \
            -o "$WORK/heard" "$PROGRESS_URL"
        heed
    done
}
