//! How many devices of which model, and pauses, as a person writes them: `cm4=80,cm5=20`, `cm4,pi3`, `3s`, `250ms`.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use crate::simulator::board::Model;

/// One part of a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    model: Model,
    count: Option<u16>,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count) = match text.split_once('=') {
            Some((name, count)) => (name, Some(count)),
            None => (text, None),
        };
        let known = || Model::ALL.map(Model::as_str).join(", ");
        let model = Model::from_str(name, true).map_err(|_| format!("{name:?} is none of the models {}", known()))?;
        let count = count.map(|count| count.parse().map_err(|_| format!("not a number of devices: {count:?}")));
        Ok(Self { model, count: count.transpose()? })
    }
}

/// The model of each device. `count` is what was asked for beside the mix.
pub fn devices(shares: &[Share], count: Option<u16>) -> Result<Vec<Model>, String> {
    let numbered: Option<Vec<(Model, u16)>> =
        shares.iter().map(|share| share.count.map(|count| (share.model, count))).collect();
    let models: Vec<Model> = match numbered {
        Some(parts) if !parts.is_empty() => {
            parts.iter().flat_map(|(model, count)| std::iter::repeat_n(*model, usize::from(*count))).collect()
        }
        None if shares.iter().any(|share| share.count.is_some()) => {
            return Err("give a number to every model of --model, or to none".to_owned());
        }
        _ => {
            let names: Vec<Model> = shares.iter().map(|share| share.model).collect();
            let names = if names.is_empty() { vec![Model::Cm4] } else { names };
            let count = usize::from(count.unwrap_or(1)).max(names.len());
            names.into_iter().cycle().take(count).collect()
        }
    };
    match count {
        Some(count) if models.len() != usize::from(count) => {
            Err(format!("--model names {} devices and --devices {count}", models.len()))
        }
        _ if !(1..=MOST).contains(&models.len()) => {
            Err(format!("{} devices are not between 1 and {MOST}", models.len()))
        }
        _ => Ok(models),
    }
}

/// `3s`, `250ms`, `0ms`.
pub fn pause(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    match (number.parse::<u32>(), unit) {
        (Ok(number), "s") => Ok(Duration::from_secs(u64::from(number))),
        (Ok(number), "ms") => Ok(Duration::from_millis(u64::from(number))),
        _ => Err(format!("not a pause such as 3s or 250ms: {text:?}")),
    }
}

const MOST: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(texts: &[&str], count: Option<u16>) -> Result<String, String> {
        let shares: Vec<Share> = texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(devices(&shares, count)?.into_iter().map(Model::as_str).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_mix_has_numbers_or_is_spread_over_the_devices() {
        assert_eq!(mix(&["cm4=2", "CM5=1"], None).unwrap(), "cm4 cm4 cm5");
        assert_eq!(mix(&["cm4=2", "cm5=1"], Some(3)).unwrap(), "cm4 cm4 cm5");
        assert_eq!(mix(&["cm4", "pi3"], Some(3)).unwrap(), "cm4 pi3 cm4");
        assert_eq!(mix(&["pi5", "pi4"], None).unwrap(), "pi5 pi4");
        assert_eq!(mix(&[], Some(2)).unwrap(), "cm4 cm4");
        assert_eq!(mix(&[], None).unwrap(), "cm4");
    }

    #[test]
    fn a_mix_that_does_not_add_up_is_refused() {
        for (texts, count) in [
            (&["cm4=2", "cm5"][..], None),
            (&["cm4=2"], Some(3)),
            (&["cm4=0"], None),
            (&["cm4=501"], None),
            (&["cm4", "cm5"], Some(1)),
            (&["cm6"], None),
            (&["cm4=many"], None),
        ] {
            assert!(mix(texts, count).is_err(), "{texts:?} {count:?}");
        }
        assert!(mix(&["cm6"], None).unwrap_err().contains("pi3, pi4, cm4"));
    }

    #[test]
    fn pauses_have_a_unit() {
        assert_eq!(pause("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(pause("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "3", "s", "-1s", "1.5s", "3 s", "99999999999s"] {
            assert!(pause(wrong).is_err(), "{wrong}");
        }
    }
}
