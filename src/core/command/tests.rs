//! Requests as people and machines write them.

use super::*;

fn parse(name: &str, body: &str) -> Result<Command, Refusal> {
    let envelope = Envelope {
        name: Some(name),
        id: None,
        minted_id: "minted-0001".parse().unwrap(),
        transport: Transport::Mqtt,
        now: Timestamp::from_millis(1_763_791_202_113),
    };
    Command::parse(body.as_bytes(), &envelope)
}

#[test]
fn a_hand_written_request_needs_only_its_params() {
    let command = parse("project.create", r#"{"params":{"name":"Gateway","image":"a.img.xz"}}"#).unwrap();
    assert!(!command.idempotent);
    assert_eq!(command.id.as_str(), "minted-0001");
    assert_eq!(command.expires_at, Timestamp::from_millis(1_763_791_202_113 + 3_600_000));
}

#[test]
fn each_fault_is_named_with_its_place() {
    for (name, body, pointer) in [
        ("project.create", r#"{"params":{"name":"a","image":"b","colour":"red"}}"#, "/params/colour"),
        ("project.create", r#"{"params":{"name":"a","image":"b","storage":"/etc/passwd"}}"#, "/params/storage"),
        ("project.create", r#"{"params":{"name":7,"image":"b"}}"#, "/params/name"),
        ("project.create", r#"{"params":{"name":"a"}}"#, "/params"),
        ("project.activate", r#"{"params":{"project":"../x"}}"#, "/params/project"),
        ("device.get", r#"{"params":{"device":"x"}}"#, "/params/device"),
        ("project.list", r#"{"params":{"x":1}}"#, "/params/x"),
        ("project.list", r#"{"command_id":"a b"}"#, "/command_id"),
        ("project.list", r#"{"issued_at":"yesterday"}"#, "/issued_at"),
        ("project.list", r#"{"expires_at":"2099-01-01T00:00:00Z"}"#, "/expires_at"),
        ("project.list", r#"{"name":"project.get"}"#, "/name"),
        ("project.list", "garbage", ""),
    ] {
        let refusal = parse(name, body).unwrap_err();
        assert_eq!((refusal.status, refusal.code.as_str()), (400, "invalid_params"), "{body}");
        assert_eq!(refusal.errors[0].pointer, pointer, "{body}: {refusal}");
    }
    assert_eq!(parse("project.explode", "{}").unwrap_err().code, "unknown_command");
    assert_eq!(parse("project.list", r#"{"v":2}"#).unwrap_err().code, "unsupported_version");
    assert_eq!(parse("project.list", &"x".repeat(MAX_REQUEST + 1)).unwrap_err().status, 413);
}

#[test]
fn every_announced_name_is_understood() {
    for name in NAMES {
        let refusal = Order::parse(name, Map::from_iter([("zz".to_owned(), json!(1))])).unwrap_err();
        assert_eq!(refusal.code, "invalid_params", "{name}");
    }
}

#[test]
fn the_same_content_in_another_order_is_the_same() {
    let one = parse("project.create", r#"{"params":{"name":"a","image":"b"}}"#).unwrap();
    let two = parse("project.create", r#"{"actor":{"type":"x","id":"y"},"params":{"image":"b","name":"a"}}"#).unwrap();
    assert_eq!(one.content, two.content);
}
