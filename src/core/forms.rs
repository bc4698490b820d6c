//! How values with a format look in a JSON Schema: the letters that are written, those that are read where a request
//! may say it in several ways, and one example. What counts is `FromStr` and `Display`; the tests hold the two together.

use std::borrow::Cow;

use schemars::generate::Contract;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::core::command::CommandId;
use crate::core::device::{Mac, Revision, Serial, Serial8};
use crate::core::firmware::BoardKind;
use crate::core::image::Digest;
use crate::core::job::ImageUrl;
use crate::core::label::{LabelId, PrinterName};
use crate::core::plan::{SessionId, StoragePath};
use crate::core::project::{ConfigLines, Gpio, ProjectId};
use crate::core::rule::{CircuitPattern, JumperPattern, MacPattern, Model, RevisionPattern, SerialPattern};
use crate::core::script::{FileName, ScriptId, VariableName};
use crate::core::slot::SlotName;
use crate::core::time::Timestamp;
use crate::core::token::TokenName;

/// What a reader of the schema is told of one kind of text.
struct Form {
    written: &'static str,
    /// Where requests may write it in other ways, too.
    read: Option<&'static str>,
    says: &'static str,
    example: &'static str,
}

impl Form {
    fn schema(&self, contract: &Contract) -> Schema {
        let pattern = self.read.filter(|_| contract.is_deserialize()).unwrap_or(self.written);
        json_schema!({"type": "string", "pattern": pattern, "description": self.says, "examples": [self.example]})
    }
}

/// `JsonSchema` of types that are text: name, form.
macro_rules! forms {
    ($($type:ident { written: $written:literal, $(read: $read:literal,)? says: $says:literal, example: $example:literal $(,)? })+) => {
        $(
            impl JsonSchema for $type {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($type).into()
                }

                fn schema_id() -> Cow<'static, str> {
                    concat!("core::", stringify!($type)).into()
                }

                fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                    let read = None$(.or(Some($read)))?;
                    Form { written: $written, read, says: $says, example: $example }.schema(generator.contract())
                }
            }
        )+

        #[cfg(test)]
        fn examples() -> Vec<(&'static str, &'static str, Result<String, String>)> {
            vec![$((stringify!($type), $example, $example.parse::<$type>().map(|value| value.to_string()).map_err(|error| error.to_string()))),+]
        }
    };
}

forms! {
    Mac {
        written: "^[0-9a-f]{12}$",
        read: "^([0-9A-Fa-f]{12}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}(-[0-9A-Fa-f]{2}){5})$",
        says: "Ethernet address of a device, which is its id in topics, subjects and URLs: 12 lower-case hex digits. Requests may write it with colons or dashes, too.",
        example: "dca632010203",
    }
    SlotName {
        written: "^[A-Za-z0-9_-]{1,64}$",
        says: "Name of a place on the line: as the configuration says it, or made of switch and port, or of the circuit.",
        example: "sw1-Gi1-0-12",
    }
    TokenName {
        written: "^[A-Za-z0-9_-]{1,64}$",
        says: "Name of a token; it is the actor in what its bearer asks for.",
        example: "erp-prod",
    }
    Serial8 {
        written: "^[0-9a-f]{8}$",
        read: "^[0-9A-Fa-f]{8}$",
        says: "Low word of the serial, known from the first DHCP packet: 8 hex digits. Not unique across a large production.",
        example: "a1b2c3d4",
    }
    Serial {
        written: "^[0-9a-f]{16}$",
        read: "^[0-9A-Fa-f]{8,16}$",
        says: "Serial of the board as `/proc/cpuinfo` prints it: 16 hex digits.",
        example: "10000000a1b2c3d4",
    }
    Revision {
        written: "^[0-9a-f]{6,8}$",
        read: "^[0-9A-Fa-f]{1,8}$",
        says: "Revision code of the board, in hex.",
        example: "c03140",
    }
    Digest {
        written: "^[0-9a-f]{64}$",
        read: "^[0-9A-Fa-f]{64}$",
        says: "A SHA-256: 64 lower-case hex digits. An image or firmware is named by that of its file as it was uploaded.",
        example: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    }
    SessionId {
        written: "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        read: "^[0-9A-Fa-f]{8}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{12}$",
        says: "One session: one attempt on one device. A UUIDv7, so ids sort by time.",
        example: "019ab3f4-6a00-7000-8000-000000000001",
    }
    CommandId {
        written: "^[A-Za-z0-9_-]{8,64}$",
        says: "Names one request, and the job that it began, for good.",
        example: "erp-4711-0001",
    }
    ProjectId {
        written: "^[a-z0-9-]{1,64}$",
        says: "Id of a project, made from the letters and digits of its name.",
        example: "gateway-3",
    }
    ScriptId {
        written: "^[a-z0-9-]{1,64}$",
        says: "Id of a script, made from the letters and digits of its name.",
        example: "print-label",
    }
    LabelId {
        written: "^[a-z0-9-]{1,64}$",
        says: "Id of a label, made from the letters and digits of its name.",
        example: "type-plate",
    }
    PrinterName {
        written: "^[A-Za-z0-9_-]{1,64}$",
        says: "Name of a printer, as the configuration says it.",
        example: "zebra-1",
    }
    VariableName {
        written: "^[A-Z][A-Z0-9_]{0,63}$",
        says: "Name of a variable that a device is told; none that a shell lives by (`PATH`, `IFS`, `LD_..`).",
        example: "PRODUCT_SERIAL",
    }
    FileName {
        written: "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$",
        says: "A file in the root of the boot partition.",
        example: "bootline.json",
    }
    StoragePath {
        written: "^/dev/[A-Za-z0-9_-]{1,64}$",
        says: "A block device of the module.",
        example: "/dev/mmcblk0",
    }
    ConfigLines {
        written: "^[ -~\n]{0,1024}$",
        says: "Lines for `config.txt`: printable ASCII and newlines, at most 1024 bytes.",
        example: "dtoverlay=dwc2",
    }
    BoardKind {
        written: "^(3B|CM3|3B\\+|CM3\\+|4B|400|CM4|CM4S|5|CM5|500|CM5 Lite|CM0|[0-9a-f]{6,8})$",
        read: "^(3B|CM3|3B\\+|CM3\\+|4B|400|CM4|CM4S|5|CM5|500|CM5 Lite|CM0|[0-9A-Fa-f]{6,8})$",
        says: "Boards by their name, or one by its revision code.",
        example: "CM4",
    }
    Model {
        written: "^(3B|CM3|3B\\+|CM3\\+|4B|400|CM4|CM4S|5|CM5|500|CM5 Lite|CM0)$",
        read: "^[0-9A-Za-z+ ]{1,8}$",
        says: "A board by its name; requests may write it in any case.",
        example: "CM4",
    }
    ImageUrl {
        written: "^[Hh][Tt][Tt][Pp][Ss]?://[^\\s]{1,4088}$",
        says: "`http://` or `https://`, without a user and a password.",
        example: "https://images.example.com/gateway-3.2.img.xz",
    }
    SerialPattern {
        written: "^[0-9A-Fa-f*?: -]{1,64}$",
        says: "A serial: of 16 hex digits the whole one, of 8 its low word; a range `FIRST-LAST` of either; or a pattern of 16 digits with `*` and `?`.",
        example: "10000000a1b2c300-10000000a1b2c3ff",
    }
    MacPattern {
        written: "^[0-9A-Fa-f*?: -]{1,64}$",
        says: "A MAC address, a range `FIRST-LAST`, or a pattern with `*` and `?`.",
        example: "dca63201*",
    }
    RevisionPattern {
        written: "^[0-9A-Fa-f*?: -]{1,64}$",
        says: "A revision code, a range `FIRST-LAST`, or a pattern with `*` and `?`.",
        example: "c03140",
    }
    JumperPattern {
        written: "^[01x]{3}$",
        says: "Three jumpers as the module tells them, inverse: `0` = set, `1` = not set, `x` for either.",
        example: "0xx",
    }
    CircuitPattern {
        written: "^[!-~]{1,128}$",
        says: "A place on the line as the switch names it (DHCP option 82), with `*` and `?`.",
        example: "ge-0/0/1*",
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "format": "date-time",
            "description": "RFC 3339, written in UTC with milliseconds and `Z`.",
            "examples": ["2025-11-22T06:00:02.113Z"],
        })
    }
}

impl JsonSchema for Gpio {
    fn schema_name() -> Cow<'static, str> {
        "Gpio".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0, "maximum": 57, "description": "A GPIO of the module: 0 to 57."})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_read_and_written_back() {
        for (name, example, written) in examples() {
            assert_eq!(written.as_deref(), Ok(example), "{name}");
        }
    }
}
