# There is nothing to do for this module: say why, blink, and leave its medium alone.

led timer 1 || :
printf '%s\n' "This module is not provisioned." "$REASON" "($CODE)"
exit 1
