//! Rules against devices of which more and more is known.

use proptest::prelude::*;

use super::*;
use crate::core::image::Digest;
use crate::core::time::Timestamp;

const MAC: Mac = Mac::new([0xe4, 0x5f, 0x01, 0x11, 0x22, 0x33]);

fn project(id: &str, active: bool) -> (ProjectId, Project) {
    let id: ProjectId = id.parse().unwrap();
    let project = Project {
        id: id.clone(),
        name: id.to_string(),
        image: Digest::new([1; 32]),
        sizes: Vec::new(),
        status_led: None,
        scripts: crate::core::script::Scripts::default(),
        data_file: None,
        labels: Vec::new(),
        storage: crate::core::plan::StoragePath::default(),
        boot: None,
        firmware: None,
        again: crate::core::project::Again::Refuse,
        active,
        revision: 1,
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
    };
    (id, project)
}

fn rules(json: &str) -> Rules {
    Rules { revision: 1, rules: serde_json::from_str(json).unwrap() }
}

fn when(json: &str) -> When {
    serde_json::from_str(json).unwrap()
}

/// A CM4 with 4 GB at its first DHCP packet.
fn at_dhcp() -> Known {
    Known { serial8: Some(Serial8(0xa1b2_c3d4)), ..Known::new(MAC) }.with_revision(Some(Revision(0xc0_3140)))
}

/// The same when it asks for its script.
fn at_script() -> Known {
    let facts = Facts {
        storage_sectors: Some(15_269_888),
        jumper: Some("011".to_owned()),
        memory_kb: Some(3_884_064),
        ..Facts::default()
    };
    Known { serial: Some(Serial(0x1000_0000_a1b2_c3d4)), ..at_dhcp() }.with_facts(&facts)
}

#[test]
fn each_condition_has_three_answers() {
    use Holds::{Maybe, No, Yes};
    for (text, early, late) in [
        (r#"{}"#, Yes, Yes),
        (r#"{"serial":["10000000a1b2c3d4"]}"#, Maybe, Yes),
        (r#"{"serial":["10000000a1b2c3d5"]}"#, No, No),
        (r#"{"serial":["a1b2c3d4"]}"#, Yes, Yes),
        (r#"{"serial":["a1b20000-a1b2ffff"]}"#, Yes, Yes),
        (r#"{"serial":["10000000a1b20000-10000000a1b2ffff"]}"#, Maybe, Yes),
        (r#"{"serial":["1000*"]}"#, Maybe, Yes),
        (r#"{"serial":["2*","deadbeef"]}"#, Maybe, No),
        (r#"{"mac":["e4:5f:01:*"]}"#, Yes, Yes),
        (r#"{"mac":["e45f01000000-e45f01ffffff"]}"#, Yes, Yes),
        (r#"{"mac":["dc:a6:32:*"]}"#, No, No),
        (r#"{"model":["cm5","CM4"]}"#, Yes, Yes),
        (r#"{"model":["CM5"]}"#, No, No),
        (r#"{"revision":["c03140-c03141"]}"#, Yes, Yes),
        (r#"{"revision":["?0314?"]}"#, Yes, Yes),
        (r#"{"memory_mb":{"min":4096}}"#, Yes, Yes),
        (r#"{"memory_mb":{"max":2048}}"#, No, No),
        (r#"{"storage_bytes":{"max":8589934592}}"#, Maybe, Yes),
        (r#"{"storage_bytes":{"min":8589934592}}"#, Maybe, No),
        (r#"{"jumper":["0x1"]}"#, Maybe, Yes),
        (r#"{"jumper":["1xx"]}"#, Maybe, No),
        (r#"{"circuit":["*/0/5@1"]}"#, Maybe, No),
        (r#"{"model":["CM5"],"jumper":["0x1"]}"#, No, No),
        (r#"{"model":["CM4"],"jumper":["0x1"]}"#, Maybe, Yes),
    ] {
        assert_eq!((when(text).judge(&at_dhcp()), when(text).judge(&at_script())), (early, late), "{text}");
    }
}

#[test]
fn what_could_never_match_is_refused_with_its_reason() {
    for (text, why) in [
        (r#"{"serial":["xyz"]}"#, "not a serial"),
        (r#"{"serial":["????c0de"]}"#, "not a serial"),
        (r#"{"serial":["b-a"]}"#, "not a serial"),
        (r#"{"serial":["a1b20001-a1b20000"]}"#, "before it"),
        (r#"{"mac":["e4:5f"]}"#, "not a MAC address"),
        (r#"{"model":["CM9"]}"#, "there are CM5 Lite, CM5"),
        (r#"{"revision":["red"]}"#, "not a board revision"),
        (r#"{"memory_mb":{}}"#, "take everything"),
        (r#"{"memory_mb":{"min":2,"max":1}}"#, "min 2 is above max 1"),
        (r#"{"jumper":["01"]}"#, "not three jumpers"),
        (r#"{"circuit":["a b"]}"#, "not the name of a circuit"),
        (r#"{"colour":"red"}"#, "unknown field"),
    ] {
        let error = serde_json::from_str::<When>(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn the_first_rule_that_takes_a_device_wins_and_inactive_projects_are_passed_over() {
    let projects = BTreeMap::from([project("a", false), project("b", true), project("c", true), project("d", true)]);
    let rules = rules(
        r#"[{"project":"a"},{"project":"b","when":{"model":["CM5"]}},{"project":"c","when":{"memory_mb":{"min":4096}}},{"project":"b"}]"#,
    );
    let Ok(Choice::Project { project, by }) = rules.choose(&projects, None, &at_dhcp()) else { panic!("undecided") };
    assert_eq!((project.id.as_str(), by), ("c", By::Rule { rule: 2 }));
    let assigned: ProjectId = "d".parse().unwrap();
    let Ok(Choice::Project { project, by }) = rules.choose(&projects, Some(&assigned), &at_dhcp()) else {
        panic!("no")
    };
    assert_eq!((project.id.as_str(), by), ("d", By::Assignment));
}

#[test]
fn what_no_rule_takes_gets_the_project_without_rules_or_is_held() {
    let rules = rules(r#"[{"project":"a","when":{"model":["CM5"]}}]"#);
    let mut projects = BTreeMap::from([project("a", true), project("b", true)]);
    let Ok(Choice::Project { project: chosen, by }) = rules.choose(&projects, None, &at_dhcp()) else { panic!("no") };
    assert_eq!((chosen.id.as_str(), by), ("b", By::Default));
    projects.extend([project("b", false)]);
    assert_eq!(rules.choose(&projects, None, &at_dhcp()).unwrap_err().code, "hold");
    projects.extend([project("a", false)]);
    assert_eq!(rules.choose(&projects, None, &at_dhcp()).unwrap_err().code, "no_project");
    let gone: ProjectId = "z".parse().unwrap();
    assert_eq!(rules.choose(&projects, Some(&gone), &at_dhcp()).unwrap_err().code, "no_project");
}

#[test]
fn until_the_device_has_told_all_a_choice_may_be_open() {
    let projects = BTreeMap::from([project("a", true), project("b", true), project("c", true)]);
    let rules = rules(
        r#"[{"project":"a","when":{"jumper":["0xx"]}},{"project":"b","when":{"model":["CM4"]}},{"project":"c"}]"#,
    );
    let ids = |choice: Choice<'_>| choice.candidates().iter().map(|p| p.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(rules.choose(&projects, None, &at_dhcp()).unwrap()), ["a", "b"]);
    assert_eq!(rules.choose(&projects, None, &at_dhcp()).unwrap().project(), None);
    assert_eq!(ids(rules.choose(&projects, None, &at_script()).unwrap()), ["a"]);
}

#[test]
fn a_model_is_known_by_its_text_where_no_revision_was_told() {
    for (text, model) in [
        ("Raspberry Pi Compute Module 4 Rev 1.1", "CM4"),
        ("Raspberry Pi Compute Module 5 Lite Rev 1.0", "CM5 Lite"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "3B+"),
        ("Raspberry Pi 3 Model B Rev 1.2", "3B"),
        ("Raspberry Pi 500 Rev 1.0", "500"),
    ] {
        assert_eq!(Model::of_text(text).map(|model| model.to_string()).as_deref(), Some(model), "{text}");
    }
    assert_eq!(Model::of_text("Banana Pi"), None);
}

proptest! {
    #[test]
    fn what_is_decided_early_is_not_decided_otherwise_later(
        serial in prop::collection::vec("[0-9a-f]{0,3}\\*?[0-9a-f]{8}|[0-9a-f]{16}|1\\*", 0..3),
        jumper in prop::collection::vec("[01x]{3}", 0..3), model in prop::collection::vec("CM4|CM5", 0..2),
        storage in 0u64..20_000_000_000,
    ) {
        let text = json!({"serial": serial, "jumper": jumper, "model": model, "storage_bytes": {"min": storage}});
        if let Ok(when) = serde_json::from_value::<When>(text) {
            let (early, late) = (when.judge(&at_dhcp()), when.judge(&at_script()));
            prop_assert!(late != Holds::Maybe);
            prop_assert!(early == Holds::Maybe || early == late);
            let wire = serde_json::to_value(&when).unwrap();
            prop_assert_eq!(serde_json::from_value::<When>(wire).unwrap(), when);
        }
    }

    #[test]
    fn a_pattern_matches_as_a_slow_reader_would(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        fn slow(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern, text) {
                ([], []) => true,
                ([b'*', rest @ ..], _) => slow(rest, text) || matches!(text, [_, left @ ..] if slow(pattern, left)),
                ([b'?', rest @ ..], [_, left @ ..]) => slow(rest, left),
                ([a, rest @ ..], [b, left @ ..]) => a == b && slow(rest, left),
                _ => false,
            }
        }
        if let Ok(circuit) = pattern.parse::<CircuitPattern>() {
            prop_assert_eq!(circuit.matches(&text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
