//! What a device tells of itself when it asks for its script: the query that the stock initramfs fills in.

use crate::core::device::{Facts, Mac, Serial};
use crate::core::refusal::Refusal;
use crate::http::device::form::{pairs, tidy};

/// No value of a real module comes near this.
const LONGEST: usize = 200;

#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub serial: Serial,
    pub mac: Option<Mac>,
    pub facts: Facts,
}

impl Asked {
    /// Only `serial` is required. What is missing or empty is not known; what nobody knows is passed over; of the same
    /// name twice, the first is taken.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let given = pairs(query);
        let value = |name: &str| {
            let value = given.iter().find(|(other, _)| other == name).map(|(_, value)| tidy(value, LONGEST));
            value.filter(|value| !value.is_empty())
        };
        let number = |name: &str| match value(name).map(|text| (text.parse(), text)) {
            None => Ok(None),
            Some((Ok(number), _)) => Ok(Some(number)),
            Some((Err(_), text)) => Err(Refusal::invalid(&format!("/{name}"), format!("not a number: {text:?}"))),
        };
        let serial = value("serial").ok_or_else(|| Refusal::invalid("/serial", "which device? serial is missing"))?;
        let serial = serial.parse().map_err(|wrong: String| Refusal::invalid("/serial", wrong))?;
        let facts = Facts {
            model: value("model"),
            storage_sectors: number("storagesize")?,
            memory_kb: number("memorysize")?,
            temperature: value("temp"),
            cid: value("cid"),
            csd: value("csd"),
            boot_mode: value("bootmode"),
            jumper: value("inversejumper"),
            simulated: value("simulated").is_some_and(|value| value == "1"),
        };
        Ok(Self { serial, mac: value("mac").map(|text| mac(&text)).transpose()?, facts })
    }
}

fn mac(text: &str) -> Result<Mac, Refusal> {
    let mac: Mac = text.parse().map_err(|wrong: String| Refusal::invalid("/mac", wrong))?;
    if mac.is_unicast() { Ok(mac) } else { Err(Refusal::invalid("/mac", format!("no device has the MAC {mac}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cm4_sends_is_read() {
        let query = "serial=10000000a1b2c3d4&model=Raspberry+Pi+Compute+Module+4+Rev+1.0&storagesize=15269888\
            &mac=e4:5f:01:11:22:33&inversejumper=111&memorysize=1893504&temp=42.0'C&cid=15010042&csd=d0270032&bootmode=2";
        let asked = Asked::parse(query).unwrap();
        assert_eq!(asked.serial, Serial(0x1000_0000_a1b2_c3d4));
        assert_eq!(asked.mac.unwrap().to_string(), "e45f01112233");
        let facts = Facts {
            model: Some("Raspberry Pi Compute Module 4 Rev 1.0".to_owned()),
            storage_sectors: Some(15_269_888),
            memory_kb: Some(1_893_504),
            temperature: Some("42.0'C".to_owned()),
            cid: Some("15010042".to_owned()),
            csd: Some("d0270032".to_owned()),
            boot_mode: Some("2".to_owned()),
            jumper: Some("111".to_owned()),
            simulated: false,
        };
        assert_eq!(asked.facts, facts);
    }

    #[test]
    fn a_lite_module_that_sends_empty_values_is_welcome() {
        let asked =
            Asked::parse("serial=a1b2c3d4&model=&storagesize=&mac=&temp=&cid=&csd=&bootmode=&colour=red").unwrap();
        assert_eq!(asked, Asked { serial: Serial(0xa1b2_c3d4), mac: None, facts: Facts::default() });
    }

    #[test]
    fn what_cannot_be_true_is_said() {
        for (query, pointer) in [
            ("", "/serial"),
            ("serial=", "/serial"),
            ("serial=x\";+reboot;+echo+\"", "/serial"),
            ("serial=a1b2c3d4&mac=zz", "/mac"),
            ("serial=a1b2c3d4&mac=ff:ff:ff:ff:ff:ff", "/mac"),
            ("serial=a1b2c3d4&storagesize=big", "/storagesize"),
            ("serial=a1b2c3d4&storagesize=-1", "/storagesize"),
            ("serial=a1b2c3d4&memorysize=1e9", "/memorysize"),
        ] {
            let refusal = Asked::parse(query).unwrap_err();
            assert_eq!((refusal.status, refusal.errors[0].pointer.as_str()), (400, pointer), "{query}");
        }
    }

    #[test]
    fn of_the_same_name_twice_the_first_is_taken() {
        let asked = Asked::parse("serial=a1b2c3d4&serial=00000000&simulated=1").unwrap();
        assert_eq!(asked.serial, Serial(0xa1b2_c3d4));
        assert!(asked.facts.simulated);
    }
}
